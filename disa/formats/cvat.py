"""CVAT's XML ("CVAT for images 1.1"): one mask a label and picture, as runs in its box (D124)."""

from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np

from disa.data.rle import runs_of
from disa.formats.coco import box
from disa.formats.results import LabelMap, Results
from disa.running.files import write_text


def write_cvat(results: Results, out: Path, tolerance: float) -> list[str]:
    """Write annotations.xml. Runs are exact, so the tolerance is not used."""
    root = xml.Element("annotations")
    _add(root, "version", "1.1")
    task = xml.SubElement(xml.SubElement(root, "meta"), "task")
    _add(task, "name", "disa")
    _add(task, "size", str(len(results.entries)))
    _add(task, "mode", "annotation")
    names = xml.SubElement(task, "labels")
    for word in results.categories:
        label = xml.SubElement(names, "label")
        _add(label, "name", _text(word))
        _add(label, "attributes", "")

    for number, entry in enumerate(results.entries):
        height, width = entry.size
        image = {"id": number, "name": _text(entry.picture), "width": width, "height": height}
        element = xml.SubElement(root, "image", {key: str(value) for key, value in image.items()})
        labels = results.labels(entry)
        for index in np.unique(labels[labels >= 0]).tolist():
            mask = {"label": _text(results.categories[index]), "source": "auto", "occluded": "0"}
            xml.SubElement(element, "mask", mask | _runs(labels == index) | {"z_order": "0"})

    xml.indent(root)
    declaration = '<?xml version="1.0" encoding="utf-8"?>\n'
    write_text(out / "annotations.xml", declaration + xml.tostring(root, "unicode"))
    return []


def _runs(region: LabelMap) -> dict[str, str]:
    """Return the box of a region, and its runs in there: row by row, zeros first."""
    left, top, width, height = box(region)
    runs = runs_of(region[top : top + height, left : left + width].ravel())
    sides = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, runs))} | {key: str(side) for key, side in sides.items()}


def _add(parent: xml.Element, tag: str, text: str) -> None:
    xml.SubElement(parent, tag).text = text


def _text(value: str) -> str:
    """Return text that XML can hold: control characters as escapes."""
    return "".join(
        character if character >= " " else f"\\x{ord(character):02x}" for character in value
    )
