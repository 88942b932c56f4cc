"""Picturebook's numbers by group: seen or unseen in training, things or stuff."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from disa.evaluation.network_probe import ProbeScores
from disa.evaluation.score import Scores, percent_text
from disa.picturebook import NOUNS, group

GROUPS = ("seen_things", "unseen_things", "seen_stuff", "unseen_stuff")
COLUMNS = ("all", *GROUPS)
# measure -> title in the table, digits behind the point
ROWS = {
    "miou": ("mIoU %", 1),
    "boundary_iou": ("boundary IoU %", 1),
    "foreground_iou": ("foreground IoU %", 1),
    "split_iou": ("split IoU %", 1),
    "saliency_ap": ("saliency AP", 3),
    "itm_auc": ("ITM AUC", 3),
}


def group_numbers(scores: Scores, probed: ProbeScores) -> dict[str, Any]:
    """Return the means over the four groups, over seen, unseen and all nouns, as plain data.

    IoUs and accuracies are in percent, `itm_auc` and `saliency_ap` in 0..1; what belongs to a part
    that the network lacks is None.
    """
    confusion = scores.confusion
    per_class = {
        "iou": 100 * confusion.iou,
        "accuracy": 100 * confusion.accuracy,
        "boundary_iou": 100 * scores.boundary.iou,
    }
    # A network without the SDM has no saliency, match or split to measure.
    if probed.sdm is not None:
        per_class |= probed.sdm._asdict()
    values = {name: shares.tolist() for name, shares in per_class.items()}
    means = {name: _means(each) for name, each in values.items()}
    return {
        "scenes": len(scores.images),
        "miou": means["iou"]["all"],
        "pixel_accuracy": 100 * confusion.pixel_accuracy,
        "mean_accuracy": means["accuracy"]["all"],
        "fwiou": 100 * confusion.fwiou,
        "groups": {name: means["iou"][name] for name in GROUPS},
        "boundary_iou": means["boundary_iou"],
        "itm_auc": means.get("itm_auc"),
        "saliency_ap": means.get("saliency_ap"),
        "split_iou": means.get("split_iou"),
        "foreground_iou": probed.foreground_iou,
        "background_iou": probed.background_iou,
        "per_class": {
            noun: {"group": group(noun)}
            | {name: _known(each[index]) for name, each in values.items()}
            for index, noun in enumerate(NOUNS)
        },
    }


def group_table(result: dict[str, Any], title: str) -> Table:
    """Return the numbers by group; rows of parts that the model lacks are left out."""
    caption = (
        f"{result['scenes']} scenes; pixel accuracy {result['pixel_accuracy']:.1f} %, "
        f"mean accuracy {percent_text(result['mean_accuracy'], 1)} %, fwIoU {result['fwiou']:.1f} %"
    )
    table = Table(title=title, caption=caption)
    table.add_column("", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.replace("_", " "), justify="right")
    for name, (heading, digits) in ROWS.items():
        # The result has the mIoU of the groups apart from that of all nouns.
        row = {"all": result["miou"], **result["groups"]} if name == "miou" else result[name]
        if row is not None:
            table.add_row(heading, *(percent_text(row.get(column), digits) for column in COLUMNS))
    return table


def _means(values: Sequence[float]) -> dict[str, float | None]:
    """Return the means of the values that are known, over each group and the unions of groups."""

    # Every noun counts alike, however many pixels it has; one that no scene holds does not count.
    def mean(prefix: str) -> float | None:
        known = [
            value
            for noun, value in zip(NOUNS, values, strict=True)
            if group(noun).startswith(prefix) and not math.isnan(value)
        ]
        return sum(known) / len(known) if known else None

    names = {"all": "", "seen": "seen", "unseen": "unseen"} | {name: name for name in GROUPS}
    return {name: mean(prefix) for name, prefix in names.items()}


def _known(value: float) -> float | None:
    """Return None for NaN, which JSON does not know."""
    return None if math.isnan(value) else value
