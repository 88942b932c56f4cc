"""Which formats of other tools there are, what they need, and how results become files of them."""

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from disa.errors import DisaError
from disa.running.extras import require
from disa.running.files import prepare_folder
from disa.running.lists import split_list

if TYPE_CHECKING:
    from disa.formats.results import Results

POLYGONS = ("rasterio", "shapely")


class Format(NamedTuple):
    """A format: its writer as "module:function" and the packages that this one needs."""

    writer: str
    needs: tuple[str, ...] = ()
    extra: str = "geo"  # which has them


FORMATS = {
    "coco": Format("coco:write_coco"),
    "cvat": Format("cvat:write_cvat"),
    "label-studio": Format("label_studio:write_label_studio", POLYGONS),
    "yolo": Format("yolo:write_yolo", POLYGONS),
    "geotiff": Format("geotiff:write_geotiff", POLYGONS[:1]),
    "geojson": Format("geojson:write_geojson", POLYGONS),
    "parquet": Format("parquet:write_parquet", ("pyarrow",), "parquet"),
}


class Formats(NamedTuple):
    """The formats that were asked for."""

    names: tuple[str, ...]
    tolerance: float  # of polygons, in pixels


def parse_formats(given: Sequence[str], tolerance: int | float) -> Formats:
    """Return the formats that texts name, each once: ("coco, yolo", "coco") are coco and yolo.

    Raises `DisaError` for an unknown one, for one whose packages are not installed, and for a
    tolerance that is negative or no number.
    """
    if not 0 <= tolerance < math.inf:
        raise DisaError(f"tolerance {tolerance:g}: give a number of pixels, 0 or more")
    names = tuple(dict.fromkeys(name for text in given for name in split_list(text)))
    for name in names:
        if name not in FORMATS:
            raise DisaError(f'unknown format "{name}"; choose from {", ".join(FORMATS)}')
        require(f"--format {name}", FORMATS[name].extra, *FORMATS[name].needs)
    return Formats(names, tolerance)


def write_formats(folder: Path, labels: tuple[str, ...], formats: Formats) -> list[str]:
    """Write all results in a folder into FOLDER/FORMAT, for each format; return notes.

    Results of earlier runs are among them, so none of theirs is lost where one file holds all.
    Raises `DisaError` for damaged results, and for a disk that refuses.
    """
    if not formats.names:
        return []
    # It imports numpy, which `disa --help` does without.
    from disa.formats.results import read_results

    results = read_results(folder, labels)
    notes = []
    for name in formats.names:
        out = folder / name
        prepare_folder(out)
        module, function = FORMATS[name].writer.split(":")
        write: Callable[["Results", Path, float], list[str]]
        write = getattr(import_module(f"disa.formats.{module}"), function)
        notes += write(results, out, formats.tolerance)
    return notes
