"""What `disa data` and `disa vocabulary` print and write."""

from pathlib import Path
from typing import Any

from disa.data.benchmark_record import Benchmark
from disa.data.check import Findings
from disa.data.images import write_png
from disa.data.pairs import PairedDataset
from disa.data.prepared import open_prepared, prepared_folder
from disa.data.vocabulary import Category, Vocabulary
from disa.errors import DisaError
from disa.running.terminal import say


def write_labels(part: PairedDataset, out: Path) -> None:
    """Write the label maps of a part of a data set."""
    for index, name in enumerate(part.ids):
        write_png(out / f"{name}.png", part.labels(index))


def description(benchmark: Benchmark) -> str:
    """Return what `disa data list` prints of a data set."""
    counts = ", ".join(f"{split} {count:,}" for split, count in benchmark.images.items())
    command = f"disa data prepare {benchmark.name} DIR"
    lines = [
        f"{benchmark.name}: {benchmark.title}",
        f"  images   {counts}",
        f"  from     {benchmark.page}",
        f"  terms    {benchmark.terms}",
        f"  disk     about {benchmark.disk}",
        f"  prepare  {command if benchmark.is_prepared else 'not needed'}",
        "  DIR/",
        *(f"    {line}" for line in benchmark.tree.splitlines()),
    ]
    return "\n".join(lines) + "\n"


def prepared_line(benchmark: Benchmark, root: Path, split: str) -> str:
    """Return a line on what evaluation reads of a data set that has to be converted."""
    try:
        count = len(open_prepared(benchmark, root, split).ids)
    except DisaError as error:
        return str(error)
    return f"{count:,} images are prepared, in {prepared_folder(benchmark, root, split)}"


def histogram(dataset: PairedDataset, findings: Findings) -> str:
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
    return "\n".join(lines)


def listed(names: list[str], most: int = 5) -> str:
    """Return the first names, and whether there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def count_of(number: int, what: str) -> str:
    """Return "1 image", "2 images"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def print_vocabulary(vocabulary: Vocabulary, synonyms: bool) -> None:
    """Print the prompts, what each counts as, and which of them a model cannot tell apart."""
    prompts = vocabulary.prompts(synonyms)
    width = min(60, max(map(len, prompts)))
    for index, (prompt, category) in enumerate(zip(prompts, vocabulary.prompted, strict=True)):
        counted = vocabulary.categories[vocabulary.scored[index]]
        note = (category.kind or "") if counted == category else f"counts as {counted.name}"
        say(f"{index:>4}  {prompt:{width}}  {note}".rstrip())
    say(f"{len(prompts):,} prompts, {len(vocabulary.categories):,} categories scored")
    for group in vocabulary.identical(synonyms):
        say(f'identical prompts: "{prompts[group[0]]}" at {", ".join(map(str, group))}')


def vocabulary_json(vocabulary: Vocabulary, synonyms: bool) -> dict[str, Any]:
    """Return a vocabulary as data that `load_vocabulary` reads back from a file."""
    return {
        "name": vocabulary.name,
        "categories": [_entry(category) for category in vocabulary.categories],
        "prompts": vocabulary.prompts(synonyms),
        "scored": vocabulary.scored,
        "identical": vocabulary.identical(synonyms),
    }


def _entry(category: Category) -> dict[str, Any]:
    known = {"synonyms": list(category.synonyms), "kind": category.kind, "id": category.source_id}
    return {"name": category.name} | {
        key: value for key, value in known.items() if value not in (None, [])
    }
