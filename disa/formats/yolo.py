"""YOLO's segmentation labels: a text file a picture, a polygon in shares of its sides a line."""

from pathlib import Path, PurePosixPath

import yaml

from disa.errors import DisaError
from disa.formats.polygons import corners, outlines, without_holes
from disa.formats.results import Entry, Results
from disa.running.files import prepare_folder, write_text

DIGITS = 6


def write_yolo(results: Results, out: Path, tolerance: float) -> list[str]:
    """Write labels/PICTURE.txt and data.yaml; the pictures themselves belong into images/.

    Raises `DisaError` for two pictures that differ in their suffixes alone.
    """
    owners: dict[str, Entry] = {}
    for entry in results.entries:
        path = str(PurePosixPath(entry.picture).with_suffix(".txt"))
        other = owners.setdefault(path, entry)
        if other is not entry:
            raise DisaError(
                f"{entry.picture}: YOLO has one file of labels for it and {other.picture}; rename "
                "one of the pictures and segment it again, or leave out --format yolo"
            )
    files = {out / "labels" / path.lstrip("/"): entry for path, entry in owners.items()}
    for folder in {file.parent for file in files}:
        prepare_folder(folder)
    for file, entry in files.items():
        write_text(file, _lines(results, entry, tolerance))

    names = dict(enumerate(results.categories))
    data = {"path": ".", "train": "images", "val": "images", "names": names}
    write_text(out / "data.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return []


def _lines(results: Results, entry: Entry, tolerance: float) -> str:
    """Return a line for each polygon; they have no holes, which YOLO lacks."""
    height, width = entry.size
    lines = []
    for index, polygon in outlines(results.labels(entry), tolerance):
        for part in without_holes(polygon):
            shares = [f"{x / width:.{DIGITS}f} {y / height:.{DIGITS}f}" for x, y in corners(part)]
            lines.append(f"{index} {' '.join(shares)}\n")
    return "".join(lines)
