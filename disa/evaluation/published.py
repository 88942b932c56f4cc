"""What others have published: methods and their mIoU by benchmark, from `published.json`.

Nothing of it is measured here. PC-459 is published on two scales, and most papers do not say which
(docs/evaluation.md).
"""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

BESIDE = ("CAT-Seg", "DiSa", "ESC-Net")  # what the paper's own table stands beside
SCALES = {
    "present": "over the categories present",
    "all": "over all categories",
    None: "scale not stated",
}


class PublishedMethod(NamedTuple):
    """One method as its authors report it, with a large backbone."""

    name: str
    source: str | None  # where it appeared
    year: int | None
    trained_on: str
    pc459_over: str | None  # "present", "all" or unknown
    miou: dict[str, float]  # percent, by benchmark


@cache
def methods() -> tuple[PublishedMethod, ...]:
    """Return every method that is known."""
    data = json.loads(files("disa.evaluation").joinpath("published.json").read_text())
    return tuple(PublishedMethod(**method) for method in data["methods"])


def published(benchmark: str, split: str = "val") -> list[PublishedMethod]:
    """Return the methods with a number for this benchmark's val split, the highest first."""
    if split != "val":
        return []
    known = [method for method in methods() if benchmark in method.miou]
    return sorted(known, key=lambda method: -method.miou[benchmark])
