"""A benchmark's numbers as tables: report.md and table.md, and the same rows for a terminal."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from disa.data.benchmarks import PAPER
from disa.evaluation.published import BESIDE, SCALES, methods

INCOMPLETE = "**{images} of the {total} images: not comparable with published results.**"
SYNONYMS = (
    "All synonyms were prompted; CAT-Seg's and DiSa's published results prompt the first name only."
)
TWO_SCALES = (
    "Published results of PC-459 are on two scales: over the categories present in the images "
    "(CAT-Seg, and presumably DiSa, which builds on it), or over all 459 (SAN). Compare like with "
    "like."
)
_MEASURES = {
    "miou": "mIoU",
    "miou_all": "mIoU over all categories",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "fwiou": "frequency-weighted IoU",
    "boundary_iou": "boundary IoU",
}

Result = Mapping[str, Any]


def measures(result: Result) -> list[tuple[str, str]]:
    """Return the measures of one benchmark as text; both means where a category is absent."""
    titles = dict(_MEASURES)
    total = result["categories"]
    present = result["categories_present"]
    if present < total:
        titles["miou"] = f"mIoU over the {present} categories present"
        titles["miou_all"] = f"mIoU over all {total} categories"
    else:
        del titles["miou_all"]
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
        lines.append(INCOMPLETE.format(images=result["images"], total=result["images_in_all"]))
    prompts = result.get("prompts")
    if prompts and prompts["synonyms"]:
        lines.append(SYNONYMS)
    if result["benchmark"] == "pc459":
        lines.append(TWO_SCALES)
    if prompts and prompts["identical"]:
        lines.append(
            f"{len(prompts['identical'])} groups of categories share a prompt; the first of a "
            "group wins all its pixels."
        )
    return lines


def beside_published(result: Result) -> list[tuple[str, str, str]]:
    """Return (method, mIoU, remark) of this run and of all published ones, the highest first."""
    two_scales = result["benchmark"] == "pc459"
    over = " over the categories present" if two_scales else ""
    rows = [(result["miou"], 2, result["model"], f"measured here{over}")]
    if two_scales:
        rows.append((result["miou_all"], 2, result["model"], "measured here over all categories"))
    for method in result["published"]:
        source = f", {method['source']}" if method["source"] else ""
        remark = f"as published{source}, trained on {method['trained_on']}"
        if two_scales:
            remark += f"; {SCALES[method['pc459_over']]}"
        rows.append((method["miou"][result["benchmark"]], 1, method["name"], remark))
    rows.sort(key=lambda row: -(row[0] or 0))
    return [(name, percent_text(miou, digits), remark) for miou, digits, name, remark in rows]


def report(result: Result) -> str:
    """Return `report.md`: the measures, published results, how it was measured, the categories."""
    title = f"# {result['dataset']}: {result['model']}"
    counts = f"{result['images']} images, {result['categories']} categories."
    sections = [f"{title}\n\n{counts}", *remarks(result)]
    sections.append(markdown_table(("measure", "%"), measures(result)))
    if result["published"]:
        sections.append("## Beside published results")
        sections.append(markdown_table(("method", "mIoU %", ""), beside_published(result)))
    sections.append("## How it was measured")
    sections.append(markdown_table(("", ""), _circumstances(result)))
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
        for method in methods():
            if method.name == name:
                cells = [percent_text(method.miou.get(benchmark), 1) for benchmark in PAPER]
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
        *(f"Left out: {reason}" for reason in reasons),
    ]
    return "\n\n".join(parts) + "\n"


def is_incomplete(result: Result) -> bool:
    """Tell whether images are missing: by a limit, or because the folder holds too few."""
    return bool(result["images"] != result["images_in_all"])


def percent_text(value: float | None, digits: int = 2) -> str:
    """Return a percentage, by default with one digit more than papers print; "-" for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; bars in the cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _circumstances(result: Result) -> list[tuple[str, str]]:
    rows = [
        ("command", f"`{shlex.join(result['command'])}`"),
        ("date", result["date"]),
        ("commit", str(result["commit"])),
        ("masks (sha256)", result["masks_sha256"]),
    ]
    if "weights_sha256" in result:
        prompts = result["prompts"]
        names = "all synonyms, averaged" if prompts["synonyms"] else "names only"
        templates = ", ".join(f"`{template}`" for template in prompts["templates"])
        size = result["size"] or "its own"
        rows += [
            ("weights (sha256)", result["weights_sha256"]),
            ("protocol", f"{result['protocol']}, size {size}, {result['dtype']}"),
            ("prompts", f"{names}; {templates}"),
        ]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return [*rows, ("versions", versions)]


def _category(entry: Result) -> tuple[str, ...]:
    numbers = [percent_text(entry[name]) for name in ("iou", "accuracy", "boundary_iou")]
    kind = entry["kind"] or ""
    return (str(entry["index"]), entry["name"], kind, str(entry["pixels"]), *numbers)


def _paper_cell(result: Result) -> str:
    star = "*" if is_incomplete(result) else ""
    both = ""
    if result["benchmark"] == "pc459":
        both = f" ({percent_text(result['miou_all'])} over all)"
    return f"{percent_text(result['miou'])}{star}{both}"
