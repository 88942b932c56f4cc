"""A benchmark's numbers beside published ones, as rows for a terminal, report.md and table.md.

Published numbers stand in `published.json`; nothing of it is measured here. PC-459 is published on
two scales, and most papers do not say which (docs/evaluation.md).
"""

import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from disa.data.benchmarks import PAPER
from disa.evaluation.score import percent_text
from disa.running.reading import read_json
from disa.running.shown import as_markdown, printable

BESIDE = ("CAT-Seg", "DiSa", "ESC-Net")  # what the paper's own table stands beside
SCALES = {
    "present": "over the categories present",
    "all": "over all categories",
    None: "scale not stated",
}
SYNONYMS = (
    "All synonyms were prompted; CAT-Seg's and DiSa's published results prompt the first name only."
)
TWO_SCALES = (
    "Published results of PC-459 are on two scales: over the categories present in the images "
    "(CAT-Seg, and presumably DiSa, which builds on it), or over all 459 (SAN). Compare like with "
    "like."
)

Result = Mapping[str, Any]  # what result.json holds


@cache
def methods() -> dict[str, dict[str, Any]]:
    """Return every published method by its name, as its authors report it.

    Each has its `source`, what it was `trained_on`, the scale `pc459_over` (a key of `SCALES`), and
    its `miou` in percent by benchmark, with a large backbone.
    """
    data = read_json(Path(__file__).with_name("published.json"), "install disa again")
    return {method["name"]: method for method in data["methods"]}


def published(benchmark: str, split: str = "val") -> list[dict[str, Any]]:
    """Return the methods with a number for this benchmark's val split, the highest first."""
    # Nobody publishes numbers on the images of training.
    if split != "val":
        return []
    known = [method for method in methods().values() if benchmark in method["miou"]]
    return sorted(known, key=lambda method: -method["miou"][benchmark])


def measures(result: Result) -> list[tuple[str, str]]:
    """Return (title, percentage) of each measure, with both means where a category is absent."""
    total = result["categories"]
    present = result["categories_present"]
    titles = {"miou": "mIoU"}
    if present < total:
        titles["miou"] = f"mIoU over the {present} categories present"
        titles["miou_all"] = f"mIoU over all {total} categories"
    titles |= {
        "pixel_accuracy": "pixel accuracy",
        "mean_accuracy": "mean accuracy",
        "fwiou": "frequency-weighted IoU",
        "boundary_iou": "boundary IoU",
    }
    rows = [(title, percent_text(result[name])) for name, title in titles.items()]
    for kind in ("things", "stuff"):
        means = result[kind]
        if means["categories_present"]:
            of_kind = f"{kind} ({means['categories_present']} categories)"
            rows.append((f"mIoU of {of_kind}", percent_text(means["miou"])))
            rows.append((f"boundary IoU of {of_kind}", percent_text(means["boundary_iou"])))
    return rows


def remarks(result: Result) -> list[str]:
    """Return what a reader must know before comparing these numbers with others."""
    lines = []
    if is_incomplete(result):
        images = f"{result['images']} of the {result['images_in_all']} images"
        lines.append(f"{images}: not comparable with published results.")
    if result["benchmark"] == "pc459":
        lines.append(TWO_SCALES)

    # Somebody else's label maps come without their prompts.
    prompts = result.get("prompts")
    if prompts and prompts["synonyms"]:
        lines.append(SYNONYMS)
    if prompts and prompts["identical"]:
        lines.append(
            f"{len(prompts['identical'])} groups of categories share a prompt; the first of a "
            "group wins all its pixels."
        )
    return lines


def beside_published(result: Result) -> list[tuple[str, str, str]]:
    """Return (method, mIoU, remark) of this run and of all published ones, the highest first."""
    benchmark = result["benchmark"]
    # Both scales of PC-459 are measured, so a reader can compare with either.
    scales = {"miou": ""}
    if benchmark == "pc459":
        scales = {"miou": f" {SCALES['present']}", "miou_all": f" {SCALES['all']}"}
    rows = [
        (result[name], 2, result["model"], f"measured here{scale}")
        for name, scale in scales.items()
    ]
    for method in result["published"]:
        source = f", {method['source']}" if method["source"] else ""
        remark = f"as published{source}, trained on {method['trained_on']}"
        if benchmark == "pc459":
            remark += f"; {SCALES[method['pc459_over']]}"
        rows.append((method["miou"][benchmark], 1, method["name"], remark))
    # A run that counted no pixel has no mIoU and stands last.
    rows.sort(key=lambda row: -(row[0] or 0))
    return [(name, percent_text(miou, digits), remark) for miou, digits, name, remark in rows]


def report(result: Result) -> str:
    """Return `report.md`: the measures, published results, how it was measured, the categories."""
    counts = f"{result['images']} images, {result['categories']} categories."
    title = as_markdown(f"{result['dataset']}: {result['model']}")
    sections = [f"# {title}", counts, *remarks(result)]
    sections.append(markdown_table(("measure", "%"), measures(result)))
    if result["published"]:
        sections.append("## Beside published results")
        sections.append(markdown_table(("method", "mIoU %", ""), beside_published(result)))
    sections.append("## How it was measured")
    # Indented text is shown as it is, and commands can be copied from it.
    lines = (f"    {name}: {printable(value)}" for name, value in _circumstances(result))
    sections.append("\n".join(lines))
    sections.append("## Categories")
    header = ("", "category", "kind", "pixels", "IoU %", "accuracy %", "boundary IoU %")
    sections.append(markdown_table(header, [_category(entry) for entry in result["per_category"]]))
    return "\n\n".join(sections) + "\n"


def paper_table(results: Mapping[str, Result], model: str) -> list[list[str]]:
    """Return the papers' table, header first: a row per method, a column per benchmark.

    PC-459 is given over the categories present and over all. "-" stands for no number, and a `*`
    for a number over fewer than all images.
    """
    rows = [["method", *PAPER]]
    for name in BESIDE:
        miou = methods()[name]["miou"]
        cells = [percent_text(miou.get(benchmark), 1) for benchmark in PAPER]
        rows.append([f"{name} (as published)", *cells])
    ours = [_paper_cell(results[name]) if name in results else "left out" for name in PAPER]
    return [*rows, [f"{model} (measured here)", *ours]]


def paper_markdown(rows: Sequence[Sequence[str]], reasons: Sequence[str]) -> str:
    """Return `table.md`: the papers' table, and what was left out with its reason."""
    parts = [
        "# The six benchmarks, mIoU in percent",
        markdown_table(rows[0], rows[1:]),
        TWO_SCALES,
        "Measured here over the categories present. `*`: over a part of the images, not "
        "comparable.",
        *(f"Left out: {as_markdown(reason)}" for reason in reasons),
    ]
    return "\n\n".join(parts) + "\n"


def is_incomplete(result: Result) -> bool:
    """Tell whether images are missing: by a limit, or because the folder holds too few."""
    return bool(result["images"] != result["images_in_all"])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose cells show these texts as they are."""
    cells = [[as_markdown(cell) for cell in row] for row in (header, *rows)]
    cells.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _circumstances(result: Result) -> list[tuple[str, str]]:
    prompts = result["prompts"]
    names = "all synonyms, averaged" if prompts["synonyms"] else "names only"
    templates = ", ".join(f'"{template}"' for template in prompts["templates"])
    size = result["size"] or "its own"
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return [
        ("command", shlex.join(result["command"])),
        ("date", result["date"]),
        ("commit", str(result["commit"])),
        ("masks (sha256)", result["masks_sha256"]),
        ("weights (sha256)", result["weights_sha256"]),
        ("protocol", f"{result['protocol']}, size {size}, {result['dtype']}"),
        ("prompts", f"{names}; {templates}"),
        ("versions", versions),
    ]


def _category(entry: Result) -> tuple[str, ...]:
    numbers = [percent_text(entry[name]) for name in ("iou", "accuracy", "boundary_iou")]
    return (str(entry["index"]), entry["name"], entry["kind"] or "", str(entry["pixels"]), *numbers)


def _paper_cell(result: Result) -> str:
    star = "*" if is_incomplete(result) else ""
    both = ""
    if result["benchmark"] == "pc459":
        both = f" ({percent_text(result['miou_all'])} over all)"
    return f"{percent_text(result['miou'])}{star}{both}"
