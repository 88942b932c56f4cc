"""A benchmark's numbers for people and programs: a table on the terminal, a JSON file that says where they come from.

Signature: numbers of `picturebook.evaluate` -> rich table; (numbers, model folder) -> JSON.
"""

from pathlib import Path
from typing import Any

from rich.table import Table

from disa.running.files import write_json
from disa.running.provenance import provenance

COLUMNS = ("all", "seen_things", "unseen_things", "seen_stuff", "unseen_stuff")
_TITLES = {
    "miou": "mIoU %",
    "boundary_iou": "boundary IoU %",
    "split_iou": "split IoU %",
    "saliency_ap": "saliency AP",
    "itm_auc": "ITM AUC",
}


def table(numbers: dict[str, Any], title: str) -> Table:
    """Return the numbers by group; rows of a model without the SDM are left out."""
    shown = Table(title=title, caption=_caption(numbers))
    shown.add_column("", no_wrap=True)
    for column in COLUMNS:
        shown.add_column(column.replace("_", " "), justify="right")
    rows = {"miou": {"all": numbers["miou"], **numbers["groups"]}}
    rows |= {
        name: numbers[name] for name in _TITLES if name != "miou" and numbers[name] is not None
    }
    for name, values in rows.items():
        digits = 1 if name.endswith("iou") else 3
        shown.add_row(_TITLES[name], *(_written(values[column], digits) for column in COLUMNS))
    return shown


def write_report(path: Path, numbers: dict[str, Any], model: str, folder: Path) -> None:
    """Write the numbers as JSON together with `provenance`. Raises `DisaError` if the file cannot be written."""
    write_json(path, numbers | provenance(model, folder), indent=2)


def _caption(numbers: dict[str, Any]) -> str:
    said = f"{numbers['scenes']} scenes; pixel accuracy {numbers['pixel_accuracy']:.1f} %"
    said += (
        f", mean accuracy {_written(numbers['mean_accuracy'], 1)} %, fwIoU {numbers['fwiou']:.1f} %"
    )
    if numbers["foreground_iou"] is not None:
        said += f", foreground IoU {numbers['foreground_iou']:.1f} %"
    return said


def _written(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
