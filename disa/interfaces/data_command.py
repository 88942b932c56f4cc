"""`disa data`: data sets on disk, before any model sees them."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from disa.errors import DisaError
from disa.running.files import prepare_folder
from disa.running.lists import first_of
from disa.running.terminal import counted, say, warn

if TYPE_CHECKING:
    from disa.data.benchmark_record import Benchmark
    from disa.data.check import Findings
    from disa.data.folder import FolderDataset
    from disa.data.pairs import PairedDataset

PROBLEMS_SHOWN = 50
NOTES_SHOWN = 20
SOME_FAILED = 1
EMPTY_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ListData:
    """Show each data set: official page, terms, expected files, disk space.

    The order: `disa data list a150` (what to download, how to unpack it), `disa data prepare`,
    `disa data check`, then `disa evaluate`.

    Example: `disa data list pc59`
    """

    # Show this one only.
    name: Annotated[Positional[str | None], arg(metavar="NAME")] = None

    def run(self) -> int:
        """Print what is known. Raises `DisaError` for an unknown name."""
        from disa.data.benchmarks import BENCHMARKS, find_benchmark

        shown = list(BENCHMARKS.values()) if self.name is None else [find_benchmark(self.name)]
        # The last of them ends with an empty line, too.
        say(*[line for benchmark in shown for line in _description(benchmark)][:-1])
        return 0


@dataclass(frozen=True, kw_only=True)
class _OnDisk:
    """A data set that lies on disk."""

    # A data set that `disa data list` shows, or `folder` for your own.
    name: Annotated[Positional[str], arg(metavar="NAME")]
    # The folder that holds the unpacked archives side by side; or your own data set.
    dir: Annotated[Positional[Path], arg(metavar="DIR")]
    # `val`, or `train` where there is one.
    split: str = "val"
    # Processes. Default: one per core.
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class CheckData(_OnDisk):
    """Read every picture and mask of a data set, count what is in them, and say what is wrong.

    Exit code 2 if anything is wrong, the number of images included.

    Examples:

      disa data check a150 datasets

      disa data check folder my-photos --split train
    """

    def run(self) -> int:
        """Print counts, labels and problems. Raises `DisaError` if there is any problem."""
        from disa.data.benchmarks import find_benchmark
        from disa.data.check import check
        from disa.data.dataset import open_files
        from disa.data.folder import FolderDataset

        # What was unpacked is checked, not what has been prepared from it.
        official = open_files(self.name, self.dir, self.split, official=True)
        with counted("checking") as report:
            findings = check(official, self.workers, report)
        problems = findings.problems
        notes: list[str] = []
        say(*_histogram(official, findings))
        count = len(official.ids)
        if isinstance(official, FolderDataset):
            say(f"{official.name}, {self.split}: {count:,} images")
            notes, doubtful = _doubts(official, findings)
            problems += [f"{self.dir}: {text}" for text in doubtful]
        else:
            benchmark = find_benchmark(self.name)
            published = benchmark.images[self.split]
            say(f"{official.name}, {self.split}: {count:,} images of {published:,}")
            if benchmark.is_prepared:
                say(_prepared_line(benchmark, self.dir, self.split))
            if count != published:
                problem = f"{self.dir}: {count:,} images, published are {published:,}"
                # First of all, because it explains most of the others.
                problems.insert(0, f"{problem}; unpack the archives again")
        if findings.empty:
            names = first_of(findings.empty, EMPTY_SHOWN)
            count = len(findings.empty)
            say(f"{count:,} without any label, which count for nothing: {names}")
        for note in [*notes, *_picture_notes(findings)]:
            say(f"note: {note}")
        _show_problems(problems, say)
        if problems:
            raise DisaError(
                f"{self.dir}: {_count(len(problems), 'problem')} in {self.name}, listed above; "
                "correct them"
            )
        say("no mistake is certain; read the notes above" if notes else "nothing is wrong")
        return 0


@dataclass(frozen=True, kw_only=True)
class ImportData:
    """Make a data set of your own from another tool's annotations: images/, masks/, classes.json.

    Reads COCO JSON (instances, stuff, panoptic), labelme JSON, Label Studio JSON (brushes and
    shapes), and VOC's layout (SegmentationClass, with CVAT's labelmap.txt). The source stays as it
    is; what is left out is counted, with the reason. Exit code 1 if annotated pictures are. After
    an interruption the same command begins again.

    Examples:

      disa data import labelme-folder my-photos

      disa data import instances.json my-photos --images pictures --background background
    """

    # A file or a folder that another tool has written.
    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    # The new folder.
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    # Where the pictures are, in any folder below. Default: beside the annotations.
    images: Path | None = None
    # Name of a category for pixels without an annotation, where all that is named was annotated.
    # Default: such pixels are ignored.
    background: str | None = None

    def run(self) -> int:
        """Import, and print what was left out. Raises `DisaError` if nothing can be imported."""
        from disa.data.imports.sources import read_annotations
        from disa.data.imports.writing import UNANNOTATED, write_folder

        found = read_annotations(self.source, self.images)
        with counted("importing") as report:
            written = write_folder(found, self.source, self.out, self.background, report)
        if written.begun_again:
            warn(f"note: {self.out}: held an import that was interrupted; it was made anew")
        for what, left_out in (("annotation", written.annotations), ("picture", written.failed)):
            for reason, names in left_out.items():
                shown = first_of(names, EMPTY_SHOWN)
                warn(f"left out: {_count(len(names), what)} {reason}: {shown}")
        if written.covered:
            pictures = _count(written.overlaps, "picture")
            say(f"overlaps: {written.covered:,} pixels in {pictures}; {found.order}")
        pictures = _count(written.pictures, "picture")
        categories = f"{written.categories:,} categor{'y' if written.categories == 1 else 'ies'}"
        say(f"{found.kind}: {pictures}, {categories}, in {self.out}")
        say(f"check it: {shlex.join(['disa', 'data', 'check', 'folder', str(self.out)])}")
        # A picture that nobody has annotated is no failure.
        return SOME_FAILED if written.failed.keys() - {UNANNOTATED} else 0


@dataclass(frozen=True, kw_only=True)
class PrepareData(_OnDisk):
    """Convert what cannot be read quickly, once: `a847`, `pc59` and `pc459`.

    The result goes to DIR/disa-prepared/NAME/SPLIT; the official files stay as they are. After an
    interruption the same command continues.

    Example: `disa data prepare pc459 datasets`
    """

    def run(self) -> int:
        """Convert a data set. Raises `DisaError`, also if some images could not be converted."""
        from disa.data.benchmarks import find_benchmark
        from disa.data.dataset import FOLDER, open_files
        from disa.data.prepared import open_prepared, prepare, prepared_folder

        benchmark = None if self.name == FOLDER else find_benchmark(self.name)
        if benchmark is None or not benchmark.is_prepared:
            # Opened all the same: whoever prepares a data set wants to know that it is complete.
            images = _count(len(open_files(self.name, self.dir, self.split).ids), "image")
            say(
                f"nothing to prepare: {self.name} is read directly ({images}); "
                f"`disa data check {self.name} {self.dir}` checks it"
            )
            return 0
        with counted("preparing") as report:
            made, problems = prepare(benchmark, self.dir, self.split, self.workers, report)
        _show_problems(problems, warn)
        if problems:
            images = _count(len(problems), "image")
            raise DisaError(f"{images} could not be prepared; correct the files and run this again")
        place = prepared_folder(benchmark, self.dir, self.split)
        whole = open_prepared(benchmark, self.dir, self.split)
        say(f"{len(whole.ids):,} images are prepared ({made:,} of them now), in {place}")
        return 0


@dataclass(frozen=True, kw_only=True)
class WriteLabels(_OnDisk):
    """Write the label maps as evaluation sees them: OUT/ID.png, a label's index per pixel.

    Ignored pixels are 255; in `a847` and `pc459` they are 65535, in 16 bits.

    Example: `disa data labels coco-stuff datasets --out seen --limit 20`
    """

    # Folder for the label maps; made if need be.
    out: Annotated[Path, arg(aliases=["-o"])]
    # Only the first images.
    limit: int | None = None

    def run(self) -> int:
        """Write the first `limit` label maps. Raises `DisaError`."""
        from functools import partial

        from disa.data.dataset import keep_apart, open_files
        from disa.data.parallel import each_part

        dataset = open_files(self.name, self.dir, self.split)
        # A label map has the name of its image's mask, and would replace it.
        keep_apart(dataset, self.out)
        prepare_folder(self.out)
        indices = range(len(dataset.ids))[: self.limit]
        write = partial(write_labels, out=self.out)
        with counted("writing") as report:
            for _ in each_part(write, dataset, indices, self.workers, report):
                pass  # nothing comes back
        maps = _count(len(indices), "label map")
        say(f"{maps} in {self.out}; ignored pixels are {dataset.ignored}")
        return 0


def write_labels(part: "PairedDataset", out: Path) -> None:
    """Write the label maps of a part of a data set; other processes find this by its name."""
    from disa.data.images import write_png

    for index, name in enumerate(part.ids):
        write_png(out / f"{name}.png", part.labels(index))


def _description(benchmark: "Benchmark") -> list[str]:
    """Return what `disa data list` prints of a data set, line by line."""
    counts = ", ".join(f"{split} {count:,}" for split, count in benchmark.images.items())
    command = f"disa data prepare {benchmark.name} DIR"
    return [
        f"{benchmark.name}: {benchmark.title}",
        f"  images   {counts}",
        f"  from     {benchmark.page}",
        f"  terms    {benchmark.terms}",
        f"  disk     about {benchmark.disk}",
        f"  prepare  {command if benchmark.is_prepared else 'not needed'}",
        "  DIR/",
        *(f"    {line}" for line in benchmark.tree.splitlines()),
        "",
    ]


def _prepared_line(benchmark: "Benchmark", root: Path, split: str) -> str:
    """Return a line on what evaluation reads of a data set that has to be converted."""
    from disa.data.prepared import open_prepared, prepared_folder

    try:
        count = len(open_prepared(benchmark, root, split).ids)
    except DisaError as error:
        return str(error)
    return f"{count:,} images are prepared, in {prepared_folder(benchmark, root, split)}"


def _histogram(dataset: "PairedDataset", findings: "Findings") -> list[str]:
    """Return a line per category: index, name, number of images, share of labelled pixels."""
    categories = dataset.vocabulary.categories
    sources = dataset.vocabulary.source_ids
    pixels = [findings.pixels[source] for source in sources]
    labelled = sum(pixels)
    total = findings.pixels.total()
    width = max(len(category.name) for category in categories)
    lines = [f"{'':>5} {'category':{width}} {'images':>9} {'of labelled pixels':>19}"]
    for index, category in enumerate(categories):
        share = pixels[index] / max(1, labelled)
        images = findings.images[sources[index]]
        lines.append(f"{index:>5} {category.name:{width}} {images:>9,} {share:>19.3%}")
    present = sum(count > 0 for count in pixels)
    lines.append(
        f"{present:,} of {len(categories):,} categories occur; "
        f"{1 - labelled / max(1, total):.2%} of {total:,} pixels are ignored"
    )
    return lines


def _picture_notes(findings: "Findings") -> list[str]:
    """Return what a user should know about the pictures."""
    notes = findings.notes[:NOTES_SHOWN]
    if more := len(findings.notes) - len(notes):
        notes.append(f"and {more:,} more of these")
    if findings.turned:
        pictures = _count(findings.turned, "picture")
        notes.append(
            f"{pictures} turned upright by the EXIF orientation; masks must fit what is seen"
        )
    return notes


def _doubts(dataset: "FolderDataset", findings: "Findings") -> tuple[list[str], list[str]]:
    """Return notes, and what is so doubtful that it counts as a problem."""
    from disa.data.doubts import doubts

    # What is wrong for certain has to be corrected first.
    if not findings.pixels or dataset.unknown_values(findings.pixels):
        return [], []
    pixels = [findings.pixels[source] for source in dataset.vocabulary.source_ids]
    ignored = findings.pixels.total() - sum(pixels)
    found = doubts(dataset, pixels, ignored)
    notes = [doubt.text for doubt in found if doubt.level == "note"]
    return notes, [doubt.text for doubt in found if doubt.level != "note"]


def _show_problems(problems: list[str], show: Callable[[str], None]) -> None:
    for problem in problems[:PROBLEMS_SHOWN]:
        show(f"problem: {problem}")
    if len(problems) > PROBLEMS_SHOWN:
        show(f"... and {len(problems) - PROBLEMS_SHOWN:,} more problems")


def _count(number: int, what: str) -> str:
    """Return "1 image", "2 images"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
