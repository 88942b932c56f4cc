"""GeoJSON (RFC 7946): a polygon a region, in degrees where the picture has a place (D124)."""

import json
from pathlib import Path
from typing import Any

import shapely
from rasterio.warp import transform_geom

from disa.formats.places import Place, note_of_the_placeless, place_of
from disa.formats.polygons import outlines
from disa.formats.results import Results
from disa.running.files import write_text

DEGREES = "EPSG:4326"


def write_geojson(results: Results, out: Path, tolerance: float) -> list[str]:
    """Write NAME.geojson: longitude and latitude, or pixels from the upper left corner."""
    placeless = 0
    for entry in results.entries:
        place = place_of(entry.source, entry.size)
        if place is not None and (place.crs is None or place.points):
            place = None
        placeless += place is None
        features = []
        for index, polygon in outlines(results.labels(entry), tolerance):
            # From the outside, outlines go against the clock, as the standard asks.
            geometry = _placed(polygon, place)
            turned = shapely.orient_polygons(geometry, exterior_cw=False)
            properties = {"label": results.categories[index], "index": index}
            shape = shapely.geometry.mapping(turned)
            features.append({"type": "Feature", "properties": properties, "geometry": shape})
        data = {"type": "FeatureCollection", "features": features}
        write_text(out / f"{entry.name}.geojson", json.dumps(data, ensure_ascii=False))
    return note_of_the_placeless("geojson", placeless, "their polygons are in pixels")


def _placed(polygon: Any, place: Place | None) -> Any:
    """Return a polygon in degrees, or in pixels without a place."""
    if place is None:
        return polygon
    a, b, c, d, e, f = place.transform[:6]
    moved = shapely.affinity.affine_transform(polygon, (a, b, d, e, c, f))
    degrees = transform_geom(place.crs, DEGREES, shapely.geometry.mapping(moved))
    return shapely.geometry.shape(degrees)
