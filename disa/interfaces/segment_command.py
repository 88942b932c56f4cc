"""`disa segment`: pictures and labels in; overlay, palette PNG and JSON per picture out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from disa.errors import DisaError, memory_errors_as
from disa.inference.request import Query, Request
from disa.running.files import prepare_folder
from disa.running.records import save_config
from disa.running.terminal import counted, say, warn

if TYPE_CHECKING:
    from disa.inference.segmentation import Segmentation
    from disa.inference.segmenter import Segmenter

SOME_FAILED = 1
ALL_FAILED = 2
LONGEST_STEM = 200  # bytes; file systems take names of 255
RECORD = "segment.yaml"  # what was asked for, beside the results


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Segment pictures by labels given as text.

    For each picture, OUT gets NAME_overlay.png (to look at, with a legend), NAME_labels.png (label
    indices with a palette, 255 is background) and NAME.json (area and mean score of each label).
    A picture that cannot be read is reported and the others are done. OUT/segment.yaml holds the
    options; `--config` takes it.

    Examples:

      disa segment boat.png --labels "boat|ship, sea, sky" --out results

      disa segment holiday/ --labels "person, dog, sand, sea" --out results --background 0.3

      disa segment "scans/*.tif" --labels "cup, apple" --background "table, wall" --out results

      disa segment rooms/ --vocabulary a150 --out results
    """

    # Pictures, folders of pictures, or globs such as "trip/**/*.jpg".
    images: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGES")]
    # Folder for the results; made if need be.
    out: Annotated[Path, arg(aliases=["-o"])]
    request: OmitArgPrefixes[Request] = field(default_factory=Request)
    # A name of `disa models`, a model folder, a CLIP, or an id on the Hugging Face Hub.
    model: Annotated[str, arg(aliases=["-m"])] = "mini"
    # Write heat maps of where each label looks, too.
    saliency: bool = False
    # Put the original beside the overlay.
    beside: bool = False
    # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.
    device: str = "auto"
    # Read options from this YAML or TOML file; those on the command line win.
    config: Path | None = None

    def run(self) -> int:
        """Segment every picture; 1 if some failed, 2 if all did.

        What can be refused is refused before the model is loaded. Raises `DisaError`.
        """
        from disa.data.images import expand

        if not self.images:
            raise DisaError("no picture given; name files, folders or globs")
        query = self.request.parse()
        files = expand(self.images)
        _keep_apart(files, self.out)
        prepare_folder(self.out)

        # Only now, because this import takes seconds.
        from disa.inference.segmenter import load

        segmenter = load(self.model, self.device)
        # Prompts that this model cannot read are no picture's fault, so they are refused here.
        segmenter.embed(query)
        save_config(self.out / RECORD, self)
        failed = 0
        with counted("segmenting") as report:
            for number, (file, name) in enumerate(zip(files, _result_names(files), strict=True)):
                report(number, len(files), file.name)
                try:
                    result = _segmented(segmenter, file, query)
                except DisaError as error:
                    # Of several pictures, the others are worth segmenting all the same.
                    if len(files) == 1:
                        raise
                    warn(f"error: {' '.join(str(error).split())}")
                    failed += 1
                else:
                    result.save(self.out, name, saliency=self.saliency, beside=self.beside)
        done = len(files) - failed
        if not failed:
            say(f"{done} picture{'s' if done > 1 else ''} segmented, in {self.out}")
            return 0
        say(f"{done} of {len(files)} pictures segmented, in {self.out}")
        return SOME_FAILED if done else ALL_FAILED


def _segmented(segmenter: "Segmenter", file: Path, query: Query) -> "Segmentation":
    """Segment one file. Raises `DisaError` that names it."""
    from disa.data.images import read_file

    picture = read_file(file, query.max_pixels)
    less_memory = "out of memory; choose a smaller --size, fewer labels or --device cpu"
    try:
        with memory_errors_as(less_memory):
            result: Segmentation = segmenter(picture, query)
    except DisaError as error:
        raise DisaError(f"{file}: {error}") from None
    return replace(result, source=str(file))


def _keep_apart(files: Sequence[Path], out: Path) -> None:
    """Refuse to write among the pictures: the next run would segment the results."""
    from disa.data.images import real_path

    if any(real_path(file).parent == real_path(out) for file in files):
        raise DisaError(f"{out}: holds the pictures; choose another folder for the results")


def _result_names(files: Sequence[Path]) -> list[str]:
    """Return a name for each file's results: its stem, with a number where two files share one."""
    stems = [_shortened(file.stem) for file in files]
    given = {stem.casefold() for stem in stems}
    taken: set[str] = set()
    names = []
    for stem in stems:
        name = stem
        number = 1
        # A numbered name must not be another file's own.
        while name.casefold() in taken or (number > 1 and name.casefold() in given):
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _shortened(stem: str) -> str:
    """Shorten a name until a file system takes it with everything that results append to it."""
    while len(os.fsencode(stem)) > LONGEST_STEM:
        stem = stem[:-1]
    return stem
