"""`disa data`, `disa vocabulary` and `disa picturebook`: data before any model sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from disa.errors import DisaError

PROBLEMS_SHOWN = 50


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
        from disa.interfaces.data_facts import description
        from disa.running.terminal import say

        shown = list(BENCHMARKS.values()) if self.name is None else [find_benchmark(self.name)]
        say("\n".join(map(description, shown)).rstrip())
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
        from disa.data.dataset import FOLDER, open_files
        from disa.interfaces.data_facts import count_of, histogram, listed, prepared_line
        from disa.running.terminal import counted, say

        official = open_files(self.name, self.dir, self.split, official=True)
        with counted("checking") as report:
            findings = check(official, self.workers, report)
        say(histogram(official, findings))
        count = len(official.ids)
        if self.name == FOLDER:
            say(f"{official.name}, {self.split}: {count:,} images")
        else:
            benchmark = find_benchmark(self.name)
            published = benchmark.images[self.split]
            say(f"{official.name}, {self.split}: {count:,} images of {published:,}")
            if benchmark.is_prepared:
                say(prepared_line(benchmark, self.dir, self.split))
            if count != published:
                problem = f"{self.dir}: {count:,} images, published are {published:,}"
                findings.problems.insert(0, f"{problem}; unpack the archives again")
        if findings.empty:
            say(
                f"{len(findings.empty):,} without any label, which count for nothing: "
                f"{listed(findings.empty)}"
            )
        _say_problems(findings.problems, say)
        if findings.problems:
            problems = count_of(len(findings.problems), "problem")
            raise DisaError(f"{self.dir}: {problems} in {self.name}, listed above; correct them")
        say("nothing is wrong")
        return 0


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
        from disa.interfaces.data_facts import count_of
        from disa.running.terminal import counted, say, warn

        benchmark = None if self.name == FOLDER else find_benchmark(self.name)
        if benchmark is None or not benchmark.is_prepared:
            images = count_of(len(open_files(self.name, self.dir, self.split).ids), "image")
            say(
                f"nothing to prepare: {self.name} is read directly ({images}); "
                f"`disa data check {self.name} {self.dir}` checks it"
            )
            return 0
        benchmark.check_split(self.split)
        with counted("preparing") as report:
            made, problems = prepare(benchmark, self.dir, self.split, self.workers, report)
        _say_problems(problems, warn)
        if problems:
            images = count_of(len(problems), "image")
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

        from disa.data.dataset import open_files
        from disa.data.images import real_path
        from disa.data.parallel import each_part
        from disa.interfaces.data_facts import count_of, write_labels
        from disa.running.files import prepare_folder
        from disa.running.terminal import counted, say

        dataset = open_files(self.name, self.dir, self.split)
        files = (file for pair in dataset.pairs for file in (pair.image, pair.mask))
        sources = {file.parent for file in files if isinstance(file, Path)}
        if real_path(self.out) in map(real_path, sources):
            raise DisaError(
                f"{self.out}: holds the data set's own files; choose another folder for the label "
                "maps"
            )
        prepare_folder(self.out)
        indices = range(len(dataset.ids))[: self.limit]
        write = partial(write_labels, out=self.out)
        with counted("writing") as report:
            for _ in each_part(write, dataset, indices, self.workers, report):
                pass  # nothing comes back
        maps = count_of(len(indices), "label map")
        say(f"{maps} in {self.out}; ignored pixels are {dataset.ignored}")
        return 0


def _say_problems(problems: list[str], say: Callable[[str], None]) -> None:
    for problem in problems[:PROBLEMS_SHOWN]:
        say(f"problem: {problem}")
    if len(problems) > PROBLEMS_SHOWN:
        say(f"... and {len(problems) - PROBLEMS_SHOWN:,} more problems")


@dataclass(frozen=True, kw_only=True)
class PrintVocabulary:
    """Print a vocabulary: what is prompted, thing or stuff where known, and identical prompts.

    Example: `disa vocabulary a847`
    """

    # coco-stuff, a150, a847, pc59, pc459, pas20, pas20b, or a file (classes.txt or JSON).
    name: Annotated[Positional[str], arg(metavar="NAME")]
    # With all synonyms, whose embeddings are averaged: boat|ship.
    synonyms: bool = False
    # Print JSON, which can be changed and used as a file.
    json: bool = False

    def run(self) -> int:
        """Print it. Raises `DisaError` for an unknown name and a file that is none."""
        import json

        from disa.data.vocabulary import load_vocabulary
        from disa.interfaces.data_facts import print_vocabulary, vocabulary_json
        from disa.running.terminal import say

        vocabulary = load_vocabulary(self.name)
        if self.json:
            data = vocabulary_json(vocabulary, self.synonyms)
            say(json.dumps(data, indent=1, ensure_ascii=False))
        else:
            print_vocabulary(vocabulary, self.synonyms)
        return 0


@dataclass(frozen=True, kw_only=True)
class DrawPicturebook:
    """Draw scenes of the world in which the bundled model lives.

    Example: `disa picturebook scenes --count 6 --size 384`, then
    `disa segment scenes --labels "house, sea" --out results`
    """

    # Folder for the pictures; made if need be.
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    # Number of scenes.
    count: int = 10
    # Pixels per side, 8 to 4096; the scenes are the same at any size.
    size: int = 96
    # Which world: 1 is trained on, 2 is the benchmark.
    seed: int = 2
    # Write label maps to OUT/masks and captions to OUT/scenes.json, too.
    masks: bool = False

    def run(self) -> int:
        """Draw. Raises `DisaError` for a size that cannot be drawn and a folder not writable."""
        from disa.data.images import write_png
        from disa.picturebook import LARGEST, NOUNS, SMALLEST, render
        from disa.running.files import prepare_folder, write_json
        from disa.running.terminal import counted, say

        if not SMALLEST <= self.size <= LARGEST:
            raise DisaError(f"--size {self.size}: choose {SMALLEST} to {LARGEST} pixels")
        if self.count < 1:
            raise DisaError(f"--count {self.count}: draw at least one scene")
        prepare_folder(self.out)
        if self.masks:
            prepare_folder(self.out / "masks")
        captions = {}
        with counted("drawing") as report:
            for index in range(self.count):
                scene = render(self.seed, index, self.size)
                name = f"scene-{index:04d}.png"
                write_png(self.out / name, scene.image)
                if self.masks:
                    write_png(self.out / "masks" / name, scene.labels)
                captions[name] = {"caption": scene.caption, "words": scene.nouns}
                report(index + 1, self.count)
        if self.masks:
            facts = {"seed": self.seed, "words": NOUNS, "scenes": captions}
            write_json(self.out / "scenes.json", facts)
        drawn = "1 scene is" if self.count == 1 else f"{self.count} scenes are"
        masks = f", masks in {self.out / 'masks'}" if self.masks else ""
        say(f"{drawn} in {self.out}{masks}")
        return 0
