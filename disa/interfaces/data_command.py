"""`disa data`: list, check, prepare and write the label maps of data sets."""

from functools import partial
from pathlib import Path

import typer
from PIL import Image

from disa.data.benchmarks import BENCHMARKS, Benchmark, find_benchmark
from disa.data.check import Findings, check
from disa.data.dataset import FOLDER
from disa.data.folder import open_folder
from disa.data.images import real_path
from disa.data.pairs import PairedDataset
from disa.data.parallel import each_part
from disa.data.prepared import open_prepared, prepare, prepared_folder
from disa.errors import DisaError
from disa.running.files import prepare_folder, write_whole
from disa.running.progress import counted

PROBLEMS_SHOWN = 50


def show(name: str | None) -> None:
    """Print what is known of one data set, or of all. Raises `DisaError` for an unknown name."""
    shown = BENCHMARKS.values() if name is None else [find_benchmark(name)]
    typer.echo("\n".join(_description(benchmark) for benchmark in shown), nl=False)


def run_check(name: str, root: Path, split: str, workers: int | None) -> None:
    """Print counts, the histogram of labels and the problems. Raises `DisaError` if there is any problem."""
    official = _open_official(name, root, split)
    with counted("checking") as progress:
        found = check(official, workers, progress)
    count, published = (
        len(official.ids),
        None if name == FOLDER else find_benchmark(name).images[split],
    )
    if published is not None and count != published:
        found.problems.insert(
            0, f"{root}: {count:,} images, published are {published:,}; unpack the archives again"
        )
    typer.echo(_histogram(official, found))
    typer.echo(
        f"{official.name}, {split}: {count:,} images" + (f" of {published:,}" if published else "")
    )
    if name != FOLDER and find_benchmark(name).prepared:
        typer.echo(_prepared(find_benchmark(name), root, split))
    if found.empty:
        typer.echo(
            f"{len(found.empty):,} without any label, which count for nothing: {_listed(found.empty)}"
        )
    for problem in found.problems[:PROBLEMS_SHOWN]:
        typer.echo(f"problem: {problem}")
    if len(found.problems) > PROBLEMS_SHOWN:
        typer.echo(f"... and {len(found.problems) - PROBLEMS_SHOWN:,} more problems")
    if found.problems:
        raise DisaError(
            f"{root}: {_count(len(found.problems), 'problem')} in {name}, listed above; mend them"
        )
    typer.echo("nothing is wrong")


def run_prepare(name: str, root: Path, split: str, workers: int | None) -> None:
    """Convert a data set once. Raises `DisaError`, also if some images could not be converted."""
    benchmark = None if name == FOLDER else find_benchmark(name)
    if benchmark is None or not benchmark.prepared:
        found = _count(len(_open_official(name, root, split).ids), "image")
        typer.echo(
            f"nothing to prepare: {name} is read directly ({found}); `disa data check {name} {root}` checks it"
        )
        return
    benchmark.check_split(split)
    with counted("preparing") as progress:
        made, problems = prepare(benchmark, root, split, workers, progress)
    for problem in problems[:PROBLEMS_SHOWN]:
        typer.echo(f"problem: {problem}", err=True)
    if problems:
        raise DisaError(
            f"{_count(len(problems), 'image')} could not be prepared; mend the files and run this again"
        )
    place = prepared_folder(benchmark, root, split)
    whole = open_prepared(benchmark, root, split)
    typer.echo(f"{len(whole.ids):,} images are prepared ({made:,} of them now), in {place}")


def run_labels(
    name: str, root: Path, out: Path, limit: int | None, split: str, workers: int | None
) -> None:
    """Write the first `limit` label maps to `out`. Raises `DisaError`."""
    dataset = _open(name, root, split)
    sources = {
        file.parent
        for pair in dataset.pairs
        for file in (pair.image, pair.mask)
        if isinstance(file, Path)
    }
    if real_path(out) in map(real_path, sources):
        raise DisaError(
            f"{out}: holds the data set's own files; choose another folder for the label maps"
        )
    prepare_folder(out)
    indices = range(len(dataset.ids))[:limit]
    done = 0
    with counted("writing") as progress:
        for count, _ in each_part(partial(_write_labels, out=out), dataset, indices, workers):
            done += count
            progress(done, len(indices))
    typer.echo(
        f"{_count(len(indices), 'label map')} in {out}; ignored pixels are {dataset.ignored}"
    )


def _write_labels(part: PairedDataset, out: Path) -> None:
    for index, name in enumerate(part.ids):
        picture = Image.fromarray(part.labels(index))
        write_whole(out / f"{name}.png", partial(picture.save, format="PNG"))


def _open(name: str, root: Path, split: str) -> PairedDataset:
    """Open a data set as evaluation does."""
    if name != FOLDER and find_benchmark(name).prepared:
        find_benchmark(name).check_split(split)
        return open_prepared(find_benchmark(name), root, split)
    return _open_official(name, root, split)


def _open_official(name: str, root: Path, split: str) -> PairedDataset:
    if name == FOLDER:
        return open_folder(root, split)
    find_benchmark(name).check_split(split)
    return find_benchmark(name).open(root, split)


def _description(benchmark: Benchmark) -> str:
    counts = ", ".join(f"{split} {count:,}" for split, count in benchmark.images.items())
    lines = [
        f"{benchmark.name}: {benchmark.title}",
        f"  images   {counts}",
        f"  from     {benchmark.page}",
        f"  terms    {benchmark.terms}",
        f"  disk     about {benchmark.disk}",
        f"  prepare  {f'disa data prepare {benchmark.name} DIR' if benchmark.prepared else 'not needed'}",
        "  DIR/",
        *(f"    {line}" for line in benchmark.tree.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def _prepared(benchmark: Benchmark, root: Path, split: str) -> str:
    """Return a line on what evaluation reads of a data set that has to be converted."""
    try:
        count = len(open_prepared(benchmark, root, split).ids)
    except DisaError as error:
        return str(error)
    return f"{count:,} images are prepared, in {prepared_folder(benchmark, root, split)}"


def _histogram(dataset: PairedDataset, found: Findings) -> str:
    """Return a line per category: its index, name, in how many images it is, its share of the labelled pixels."""
    categories = dataset.vocabulary.categories
    sources = dataset.vocabulary.source_ids
    counts = [found.pixels[source] for source in sources]
    labelled, everything = sum(counts), found.pixels.total()
    width = max(len(category.name) for category in categories)
    lines = [f"{'':>5} {'category':{width}} {'images':>9} {'of labelled pixels':>19}"]
    for index, category in enumerate(categories):
        share, images = counts[index] / max(1, labelled), found.images[sources[index]]
        lines.append(f"{index:>5} {category.name:{width}} {images:>9,} {share:>19.3%}")
    absent = sum(pixels == 0 for pixels in counts)
    lines.append(
        f"{len(categories) - absent:,} of {len(categories):,} categories occur; "
        f"{1 - labelled / max(1, everything):.2%} of {everything:,} pixels are ignored"
    )
    return "\n".join(lines)


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
