"""`disa segment`: pictures and labels in, overlay, palette PNG and JSON per picture out."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from disa.data.images import Pixels, expand, read_file, real_path
from disa.data.vocabulary import load_vocabulary
from disa.errors import DisaError, memory_errors_as
from disa.inference.labels import check_templates, parse_background, parse_labels
from disa.running.files import prepare_folder
from disa.running.progress import file_progress, stderr_console
from disa.weights.names import model_folder

if TYPE_CHECKING:
    from disa.inference.segmentation import Segmentation

Result = TypeVar("Result")
DONE, SOME_FAILED, ALL_FAILED = 0, 1, 2
LONGEST_STEM = 200  # bytes; file systems take names of 255


def run(
    images: Sequence[str],
    labels: str | None,
    out: Path,
    *,
    vocabulary: str | None,
    synonyms: bool,
    model: str,
    background: str,
    templates: Sequence[str] | None,
    size: int | None,
    protocol: str,
    overlap: float,
    saliency: bool,
    scores: bool,
    beside: bool,
    device: str,
    max_pixels: int,
) -> int:
    """Segment every picture and return the exit code: 0 all done, 1 some failed, 2 all failed.

    What can be refused is refused before the model is loaded. Raises `DisaError`.
    """
    words = _words(labels, vocabulary, synonyms)
    policy = parse_background(background, words)
    templates = check_templates(templates) if templates else None
    files = expand(images)
    model_folder(model)
    _keep_apart(files, out)
    prepare_folder(out)
    if len(files) == 1:
        read_file(files[0], max_pixels)

    from disa.inference.protocol import Protocol
    from disa.inference.segmenter import load

    shown = Protocol(
        protocol, size, overlap
    )  # refuses what makes no sense before the model is loaded
    console = stderr_console()
    segmenter = load(model, device)
    segmenter.embed(words, policy, templates, shown)  # refuses here what is no picture's fault

    def segment(picture: Pixels) -> "Segmentation":
        return segmenter(
            picture, words, scores=scores, background=policy, templates=templates, size=size, protocol=protocol,
            overlap=overlap,
        )  # fmt: skip

    failed = 0
    with file_progress(console) as progress:
        task = progress.add_task("", total=len(files))
        for file, name in zip(files, _names(files), strict=True):
            progress.update(task, description=file.name)
            try:
                result = _segmented(file, max_pixels, segment)
            except DisaError as error:
                if len(files) == 1:
                    raise
                console.print(f"error: {' '.join(str(error).split())}")
                failed += 1
            else:
                replace(result, source=str(file)).save(out, name, saliency=saliency, beside=beside)
            progress.advance(task)
    done = len(files) - failed
    typer.echo(
        f"{done} of {len(files)} pictures segmented, in {out}"
        if failed
        else f"{_count(done)} segmented, in {out}"
    )
    return DONE if not failed else SOME_FAILED if done else ALL_FAILED


def _segmented(file: Path, max_pixels: int, segment: Callable[[Pixels], Result]) -> Result:
    """Read and segment one picture. Raises `DisaError`, naming the file, for what only this picture does not do."""
    picture = read_file(file, max_pixels)
    try:
        with memory_errors_as(
            "out of memory; choose a smaller --size, fewer labels or --device cpu"
        ):
            return segment(picture)
    except DisaError as error:
        raise DisaError(f"{file}: {error}") from None


def _words(labels: str | None, vocabulary: str | None, synonyms: bool) -> tuple[str, ...]:
    """Return the labels that the options name: the user's own words, or a vocabulary's, each word once."""
    if (labels is None) == (vocabulary is None):
        raise DisaError(
            'give either --labels "house, sea" or --vocabulary a150 (or a file of classes)'
        )
    if vocabulary is not None:
        return parse_labels(load_vocabulary(vocabulary).labels(synonyms))
    if synonyms:
        raise DisaError(
            '--synonyms belongs to --vocabulary; among --labels write them as "boat|ship"'
        )
    return parse_labels(labels or "")


def _count(number: int) -> str:
    return "1 picture" if number == 1 else f"{number} pictures"


def _keep_apart(files: Sequence[Path], out: Path) -> None:
    """Refuse to write among the pictures: the next run on that folder would segment the results."""
    if any(real_path(file).parent == real_path(out) for file in files):
        raise DisaError(f"{out}: holds the pictures; choose another folder for the results")


def _names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file's results: its stem, cut if need be, with a number where two files share one."""
    stems = [_cut(file.stem) for file in files]
    given = {stem.casefold() for stem in stems}
    taken: set[str] = set()
    names = []
    for stem in stems:
        name, number = stem, 1
        while name.casefold() in taken or (number > 1 and name.casefold() in given):
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _cut(stem: str) -> str:
    """Shorten a name until a file system takes it with everything that results append to it."""
    while len(os.fsencode(stem)) > LONGEST_STEM:
        stem = stem[:-1]
    return stem
