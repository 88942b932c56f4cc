"""Where on the earth a picture lies, for the formats that keep it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from disa.data.picture_files import opened, orientation
from disa.errors import DisaError

UPRIGHT = 1


class Place(NamedTuple):
    """A picture's coordinate system (rasterio's) and how pixels lie in it, one way or the other."""

    crs: Any
    transform: Any  # affine, from pixels
    points: list[Any]  # of the ground (GCPs), instead of a transform


def place_of(source: Path | None, size: tuple[int, int]) -> Place | None:
    """Return the place that a picture's file (or a world file beside it) names.

    None where there is none, where the file is gone or another one, and where its orientation was
    corrected, because the pixels are others then.
    """
    if source is None or not source.is_file():
        return None
    # Bands that Pillow does not know are no picture of a camera. Another picture may be there now,
    # and a larger one is refused before anything of it is decoded.
    with suppress(DisaError), opened(source, size[0] * size[1], load=False) as image:
        if orientation(image) != UPRIGHT:
            return None
    try:
        with without_place_warnings(), rasterio.open(source) as file:
            points, points_crs = file.gcps
            is_placed = not file.transform.is_identity
            if (file.height, file.width) != size or not (is_placed or points):
                return None
            return Place(file.crs if is_placed else points_crs, file.transform, points)
    except RasterioError:
        return None


@contextmanager
def without_place_warnings() -> Iterator[None]:
    """Keep rasterio from warning of pictures without a place, which are no mistake."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def note_of_the_placeless(format_name: str, count: int, meaning: str) -> list[str]:
    """Return a note on pictures without a place, if there are any."""
    if not count:
        return []
    return [f"{format_name}: pictures without a georeference: {count}; {meaning}"]
