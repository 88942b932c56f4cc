"""Label Studio's tasks with predictions: polygons in percent of the picture's sides (D124)."""

from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree as xml

from disa.formats.polygons import corners, outlines, without_holes
from disa.formats.results import Entry, Results
from disa.running.files import write_json, write_text

# Where Label Studio serves files of its storage "local files".
ADDRESS = "/data/local-files/?d="


def write_label_studio(results: Results, out: Path, tolerance: float) -> list[str]:
    """Write tasks.json, and the labels in config.xml."""
    tasks = [_task(results, entry, tolerance) for entry in results.entries]
    write_json(out / "tasks.json", tasks)

    view = xml.Element("View")
    xml.SubElement(view, "Image", {"name": "image", "value": "$image"})
    labels = xml.SubElement(view, "PolygonLabels", {"name": "label", "toName": "image"})
    for word in results.categories:
        xml.SubElement(labels, "Label", {"value": word})
    xml.indent(view)
    write_text(out / "config.xml", xml.tostring(view, "unicode"))
    return []


def _task(results: Results, entry: Entry, tolerance: float) -> dict[str, object]:
    """Return a picture's task; its polygons have no holes, which Label Studio lacks."""
    height, width = entry.size
    regions: list[dict[str, object]] = []
    for index, polygon in outlines(results.labels(entry), tolerance):
        for part in without_holes(polygon):
            points = [[100 * x / width, 100 * y / height] for x, y in corners(part)]
            label = results.categories[index]
            regions.append(
                {
                    "id": f"{len(regions)}",
                    "type": "polygonlabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "value": {"points": points, "polygonlabels": [label], "closed": True},
                }
            )
    address = ADDRESS + quote(entry.picture)
    prediction = {"model_version": "disa", "result": regions}
    return {"data": {"image": address}, "predictions": [prediction]}
