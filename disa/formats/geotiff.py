"""GeoTIFF: label maps that lie where their pictures do (D124)."""

from pathlib import Path
from typing import Any

import numpy as np
from rasterio import MemoryFile

from disa.data.masks import ignored_value, label_type
from disa.formats.places import Place, note_of_the_placeless, place_of, without_place_warnings
from disa.formats.results import Entry, Results
from disa.running.files import write_bytes


def write_geotiff(results: Results, out: Path, tolerance: float) -> list[str]:
    """Write NAME.tif: indices of labels, with their names as tags of the band and their colours.

    Label maps are exact, so the tolerance is not used.
    """
    placeless = 0
    for entry in results.entries:
        place = place_of(entry.source, entry.size)
        placeless += place is None
        write_bytes(out / f"{entry.name}.tif", _content(results, entry, place))
    return note_of_the_placeless("geotiff", placeless, "their label maps have none either")


def _content(results: Results, entry: Entry, place: Place | None) -> bytes:
    nothing = ignored_value(len(results.categories))
    dtype = label_type(nothing)
    labels = results.labels(entry)
    values = np.where(labels < 0, nothing, labels).astype(dtype)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": entry.size[0],
        "width": entry.size[1],
        "count": 1,
        "dtype": dtype,
        "nodata": nothing,
        "compress": "deflate",
    }
    if place is not None:
        profile["crs"] = place.crs
        profile |= {"gcps": place.points} if place.points else {"transform": place.transform}

    colours = results.colours(entry) if dtype is np.uint8 else {}
    with without_place_warnings(), MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(values, 1)
            file.update_tags(1, **{str(i): word for i, word in enumerate(results.categories)})
            if colours:
                file.write_colormap(1, colours)
        return bytes(memory.read())
