"""COCO's JSON: one annotation a label and picture, its region as compressed runs (D124)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from disa.data.rle import encode_rle
from disa.formats.results import LabelMap, Results
from disa.running.files import write_json


def coco_data(pictures: Iterable[tuple[str, LabelMap]], categories: Sequence[str]) -> Any:
    """Return COCO's data set of pictures, by name and label map; plain data. Ids begin with 1."""
    images = []
    annotations: list[dict[str, Any]] = []
    for number, (name, labels) in enumerate(pictures, start=1):
        height, width = labels.shape
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for index in np.unique(labels[labels >= 0]).tolist():
            region = labels == index
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": index + 1,
                    "segmentation": encode_rle(region),
                    "area": int(region.sum()),
                    "bbox": box(region),
                    "iscrowd": 0,
                }
            )
    named = [{"id": index, "name": name} for index, name in enumerate(categories, start=1)]
    return {"images": images, "annotations": annotations, "categories": named}


def box(region: LabelMap) -> list[int]:
    """Return left, top, width and height of a region that is not empty."""
    rows = np.flatnonzero(region.any(1))
    columns = np.flatnonzero(region.any(0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def write_coco(results: Results, out: Path, tolerance: float) -> list[str]:
    """Write annotations.json. Runs are exact, so the tolerance is not used."""
    pictures = ((entry.picture, results.labels(entry)) for entry in results.entries)
    write_json(out / "annotations.json", coco_data(pictures, results.categories))
    return []
