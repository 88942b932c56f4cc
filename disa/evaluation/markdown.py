"""A benchmark's numbers beside the published ones, as Markdown: (result.json) -> report.md; (several) -> table.md."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from disa.evaluation.published import BESIDE, PAPER, SCALES, methods

INCOMPLETE = "**{images} of the {all} images: not comparable with published results.**"
SYNONYMS = (
    "All synonyms were prompted; CAT-Seg's and DiSa's published results prompt the first name only."
)
TWO_SCALES = (
    "Published results of PC-459 are on two scales: over the categories present in the images (CAT-Seg, and presumably "
    "DiSa, which builds on it), or over all 459 (SAN). Compare like with like."
)
_ROWS = {
    "miou": "mIoU",
    "miou_all": "mIoU over all categories",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "fwiou": "frequency-weighted IoU",
    "boundary_iou": "boundary IoU",
}


def rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the measures of one benchmark and their values as text; both means where a category is absent."""
    absent = result["categories"] - result["categories_present"]
    names = dict(_ROWS)
    if absent:
        names["miou"] = f"mIoU over the {result['categories_present']} categories present"
        names["miou_all"] = f"mIoU over all {result['categories']} categories"
    else:
        del names["miou_all"]
    found = [(title, percent(result[name])) for name, title in names.items()]
    for part in ("things", "stuff"):
        if result[part]["categories_present"]:
            title = f"{part} ({result[part]['categories_present']} categories)"
            found.append((f"mIoU of {title}", percent(result[part]["miou"])))
            found.append((f"boundary IoU of {title}", percent(result[part]["boundary_iou"])))
    return found


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know before comparing these numbers with others."""
    said = []
    if incomplete(result):
        said.append(INCOMPLETE.format(images=result["images"], all=result["images_in_all"]))
    if result["synonyms"]:
        said.append(SYNONYMS)
    if result["benchmark"] == "pc459":
        said.append(TWO_SCALES)
    if shared := result["prompts"]["identical"]:
        said.append(
            f"{len(shared)} groups of categories share a prompt; the first of a group wins all its pixels."
        )
    return said


def beside(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (method, mIoU, remark) of this run and of everything published on its benchmark, the highest first."""
    present = " over the categories present" if result["benchmark"] == "pc459" else ""
    found = [(result["miou"], result["model"], f"measured here{present}", 2)]
    if present:
        found.append((result["miou_all"], result["model"], "measured here over all categories", 2))
    for method in result["published"]:
        remark = ", ".join(
            filter(None, ["as published", method["source"], f"trained on {method['trained_on']}"])
        )
        scale = f"; {SCALES[method['pc459_over']]}" if present else ""
        found.append((method["miou"][result["benchmark"]], method["name"], remark + scale, 1))
    found.sort(key=lambda row: -(row[0] or 0))
    return [(name, percent(value, digits), remark) for value, name, remark, digits in found]


def report(result: Mapping[str, Any]) -> str:
    """Return `report.md`: the measures, the published results, how it was measured, and every category."""
    prompts = result["prompts"]
    sections = [
        f"# {result['dataset']}: {result['model']}\n\n{result['images']} images, {result['categories']} categories.",
        *notes(result),
        _table(("measure", "%"), rows(result)),
        "## Beside published results",
        _beside(result),
        "## How it was measured",
        _table(
            ("", ""),
            [
                ("command", f"`{shlex.join(result['command'])}`"),
                ("date", result["date"]),
                ("commit", str(result["commit"])),
                ("weights (sha256)", result["weights_sha256"]),
                ("protocol", f"{result['protocol']}, size {result['size'] or 'its own'}, {result['dtype']}"),
                ("prompts", f"{'all synonyms, averaged' if prompts['synonyms'] else 'names only'}; "
                 + ", ".join(f"`{template}`" for template in prompts["templates"])),
                ("versions", ", ".join(f"{name} {number}" for name, number in result["versions"].items())),
                ("sittings", "; ".join(map(_sitting, result["sittings"]))),
            ],
        ),
        "## Categories",
        _table(
            ("", "category", "kind", "pixels", "IoU %", "accuracy %", "boundary IoU %"),
            [
                (str(entry["index"]), entry["name"], entry["kind"] or "", str(entry["pixels"]),
                 *(percent(entry[name]) for name in ("iou", "accuracy", "boundary_iou")))
                for entry in result["per_category"]
            ],
        ),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _beside(result: Mapping[str, Any]) -> str:
    if not result["published"]:
        return "There are none for this data set."
    return _table(("method", "mIoU %", ""), beside(result))


def paper_table(results: Mapping[str, Mapping[str, Any]], model: str) -> list[list[str]]:
    """Return the papers' table, header first: a row per method, a column per benchmark; "-" where there is no number.

    PC-459 is given over the categories present and over all. A number over fewer than all images has a `*`.
    """
    ours = [_cell(results[name]) if name in results else "left out" for name in PAPER]
    theirs = [method for name in BESIDE for method in methods() if method.name == name]
    cells = [
        [f"{method.name} (as published)", *(percent(method.miou.get(name), 1) for name in PAPER)]
        for method in theirs
    ]
    return [["method", *PAPER], *cells, [f"{model} (measured here)", *ours]]


def _cell(result: Mapping[str, Any]) -> str:
    both = f" ({percent(result['miou_all'])} over all)" if result["benchmark"] == "pc459" else ""
    return percent(result["miou"]) + "*" * incomplete(result) + both


def paper_markdown(table: Sequence[Sequence[str]], reasons: Sequence[str]) -> str:
    """Return `table.md`: the papers' table, and what was left out with its reason."""
    parts = ["# The six benchmarks, mIoU in percent", _table(table[0], table[1:]), TWO_SCALES]
    parts.append(
        "Measured here over the categories present. `*`: over a part of the images, not comparable."
    )
    parts += [f"Left out: {reason}" for reason in reasons]
    return "\n\n".join(parts) + "\n"


def incomplete(result: Mapping[str, Any]) -> bool:
    """Tell whether images are missing: a limit was given, or the folder holds fewer than the benchmark has."""
    return bool(result["images"] != result["images_in_all"])


def percent(value: float | None, digits: int = 2) -> str:
    """Return a percentage, by default with one digit more than papers print; "-" for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _sitting(sitting: Mapping[str, Any]) -> str:
    seconds = max(1e-9, sitting["seconds"])
    shares = [
        f"{100 * sitting[f'seconds_{part}'] / seconds:.0f} % {part}" for part in ("model", "metric")
    ]
    speed = f"{sitting['images']} images at {sitting['images'] / seconds:.2f} a second ({', '.join(shares)})"
    return f"{speed} on {sitting['device']}, process {sitting['process']}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = [header, ["---"] * len(header), *lines]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells
    )
