"""What others have published: benchmark -> methods and their mIoU, from `published.json`.

Nothing of it is measured here. PC-459 is published on two scales; most papers do not say which (docs/evaluation.md).
"""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

PAPER = (
    "a847",
    "pc459",
    "a150",
    "pc59",
    "pas20",
    "pas20b",
)  # the six benchmarks, in the order of the papers' tables
BESIDE = ("CAT-Seg", "DiSa", "ESC-Net")  # what the paper's own table is set beside
SCALES = {
    "present": "over the categories present",
    "all": "over all categories",
    None: "scale not stated",
}


class Published(NamedTuple):
    """One method as its authors report it, with a large backbone."""

    name: str
    source: str | None  # where it appeared
    year: int | None
    trained_on: str
    pc459_over: str | None  # "present", "all" or unknown
    miou: dict[str, float]  # percent, by benchmark


@cache
def methods() -> tuple[Published, ...]:
    """Return every method that is known."""
    data = json.loads(files("disa.evaluation").joinpath("published.json").read_text())
    return tuple(Published(**method) for method in data["methods"])


def published(benchmark: str | None, split: str = "val") -> list[Published]:
    """Return the methods with a number for this benchmark, the highest first: none for others, and parts but val."""
    if benchmark is None or split != "val":
        return []
    known = [method for method in methods() if benchmark in method.miou]
    return sorted(known, key=lambda method: -method.miou[benchmark])
