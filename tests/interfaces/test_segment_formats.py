"""`disa segment --format`: what is written is read back by other tools, or by their rules."""

import importlib.util
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from command_line import Result, invoke
from PIL import Image

from disa.data.imports.regions import polygon as filled
from disa.inference.segmentation import Segmentation

rasterio = pytest.importorskip("rasterio")
shapely = pytest.importorskip("shapely")
parquet = pytest.importorskip("pyarrow.parquet")

LABELS = ("house", "sea|ocean", "grün, <wet> & 'cold'")
UTM = "EPSG:32633"
GEO_KEYS = 34735  # the tag that makes a TIFF a GeoTIFF
PLACE = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)  # ten metres a pixel


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of one name in two folders, and one with a place on the earth."""
    folder = tmp_path_factory.mktemp("trip")
    for number, name in enumerate(["a/x 1.png", "b/x 1.png"]):
        (folder / name).parent.mkdir()
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40 + number, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    field = np.random.default_rng(2).integers(0, 256, (3, 50, 60), np.uint8)
    profile = {"driver": "GTiff", "height": 50, "width": 60, "count": 3, "dtype": "uint8"}
    transform = rasterio.Affine(*PLACE)
    path = folder / "field.tif"
    with rasterio.open(path, "w", crs=UTM, transform=transform, **profile) as file:
        file.write(field)
    return folder


def segment(
    pictures: object, out: Path, model: Path, *options: object, labels: tuple[str, ...] = LABELS
) -> Result:
    text = ", ".join(f'"{label}"' for label in labels)
    words = ["--labels", text, "--background", 0.5, "--model", model, "--no-overlay"]
    return invoke("segment", pictures, "--recursive", "--out", out, *words, *options)


@pytest.fixture(scope="module")
def maps(trip: Path) -> dict[str, np.ndarray]:
    """A label map for each picture, by its path below `trip`: rings, spots and background."""
    maps = {}
    for number, path in enumerate(sorted(trip.rglob("*.*"))):
        with Image.open(path) as image:
            width, height = image.size
        labels = np.random.default_rng(number).integers(-1, len(LABELS), (height, width))
        labels[3:25, 3:25] = 1
        labels[6:20, 6:20] = 2
        labels[9:12, 9:12] = -1
        labels[14:18, 9:19] = 0
        maps[path.relative_to(trip).as_posix()] = labels.astype(np.int32)
    assert set(maps) == {"a/x 1.png", "b/x 1.png", "field.tif"}
    return maps


@pytest.fixture(scope="module")
def out(
    trip: Path,
    maps: dict[str, np.ndarray],
    model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The label maps as results, and all formats of them; the model has nothing to do."""
    out = tmp_path_factory.mktemp("out")
    for name, labels in maps.items():
        image = np.zeros((*labels.shape, 3), np.uint8)
        confidence = np.ones(labels.shape, np.float32)
        Segmentation(image, LABELS, labels, confidence, source=str(trip / name)).save(out)
    formats = ["--format", "coco, cvat,yolo", "--format", "label-studio,geotiff,geojson,parquet"]
    done = segment(trip, out, model_folder, *formats, "--tolerance", 0, "--skip-existing")
    assert done.exit_code == 0, done.output
    assert "0 pictures segmented" in done.stdout
    assert done.stderr.count("pictures without a georeference: 2") == 2
    return out


def painted(shape: tuple[int, ...], regions: Iterator[tuple[int, np.ndarray]]) -> np.ndarray:
    labels = np.full(shape, -1)
    for label, region in regions:
        assert (labels[region] == -1).all()
        labels[region] = label
    return labels


def test_coco(out: Path, maps: dict[str, np.ndarray]):
    left = dict(maps)
    coco = pytest.importorskip("pycocotools.coco").COCO(out / "coco/annotations.json")
    names = {each["id"]: each["name"] for each in coco.loadCats(coco.getCatIds())}
    assert tuple(names.values()) == LABELS
    for image in coco.loadImgs(coco.getImgIds()):
        expected = left.pop(image["file_name"])
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        found = [
            (LABELS.index(names[a["category_id"]]), coco.annToMask(a) > 0) for a in annotations
        ]
        np.testing.assert_array_equal(painted(expected.shape, iter(found)), expected)
    assert not left


def test_parquet(out: Path, maps: dict[str, np.ndarray]):
    rows = parquet.read_table(out / "parquet/results.parquet").to_pylist()
    assert {row["image"] for row in rows} == set(maps)
    for row in rows:
        expected = maps[row["image"]]
        assert (row["height"], row["width"]) == expected.shape
        assert tuple(row["words"]) == LABELS
        labels = np.asarray(Image.open(io.BytesIO(row["labels"])))
        np.testing.assert_array_equal(labels, np.where(expected < 0, 255, expected))
        assert json.loads(row["json"]) == json.loads((out / f"{row['name']}.json").read_text())


def test_supervision_reads_yolo(trip: Path, out: Path, maps: dict[str, np.ndarray], tmp_path: Path):
    supervision = pytest.importorskip("supervision")
    # It takes pictures of one folder.
    for folder in ("a", "b"):
        read = supervision.DetectionDataset.from_yolo(
            str(trip / folder),
            str(out / "yolo/labels" / folder),
            str(out / "yolo/data.yaml"),
            force_masks=True,
        )
        assert tuple(read.classes) == LABELS
        ((_, _, found),) = list(read)
        expected = maps[f"{folder}/x 1.png"]
        # It paints the outline's own pixels, too, so a region is at most a pixel wider.
        for label in range(len(LABELS)):
            region = found.mask[found.class_id == label].any(0)
            assert (region | ~(expected == label)).all()


def test_yolo(out: Path, maps: dict[str, np.ndarray]):
    for name, expected in maps.items():
        text = (out / "yolo/labels" / name).with_suffix(".txt").read_text()
        height, width = expected.shape

        def regions(text: str = text, width: int = width, height: int = height) -> Iterator:
            for line in text.splitlines():
                label, *numbers = line.split()
                points = np.array(numbers, float).reshape(-1, 2)
                assert ((points >= 0) & (points <= 1)).all()
                pixels = (points * (width, height)).round(3)
                yield int(label), filled(pixels, (height, width))

        np.testing.assert_array_equal(painted(expected.shape, regions()), expected)


def test_cvat(out: Path, maps: dict[str, np.ndarray]):
    """By CVAT's documentation: lengths of zeros and ones in turn, row by row, in the box."""
    left_out = dict(maps)
    root = ElementTree.parse(out / "cvat/annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert tuple(each.findtext("name") for each in root.iter("label")) == LABELS
    for image in root.iter("image"):
        expected = left_out.pop(image.get("name"))
        assert (int(image.get("height")), int(image.get("width"))) == expected.shape
        found = []
        for mask in image.iter("mask"):
            left, top, width, height = (
                int(mask.get(side)) for side in ("left", "top", "width", "height")
            )
            values = []
            for position, length in enumerate(mask.get("rle").split(", ")):
                values += [position % 2 == 1] * int(length)
            region = np.zeros(expected.shape, bool)
            region[top : top + height, left : left + width] = np.reshape(values, (height, width))
            found.append((LABELS.index(mask.get("label")), region))
        np.testing.assert_array_equal(painted(expected.shape, iter(found)), expected)
    assert not left_out


def test_label_studio(out: Path, maps: dict[str, np.ndarray]):
    """By Label Studio's documentation: corners in percent, names as its configuration has them."""
    left = dict(maps)
    config = ElementTree.parse(out / "label-studio/config.xml").getroot()
    assert tuple(each.get("value") for each in config.iter("Label")) == LABELS
    (tool,) = config.iter("PolygonLabels")
    (shown,) = config.iter("Image")
    for task in json.loads((out / "label-studio/tasks.json").read_text()):
        address = urlsplit(task["data"][shown.get("value").removeprefix("$")])
        expected = left.pop(parse_qs(address.query)["d"][0])
        (prediction,) = task["predictions"]
        found = []
        for result in prediction["result"]:
            assert result["from_name"] == tool.get("name")
            assert result["to_name"] == tool.get("toName") == shown.get("name")
            size = (result["original_height"], result["original_width"])
            assert size == expected.shape
            points = (np.array(result["value"]["points"]) * size[::-1] / 100).round(6)
            (label,) = result["value"]["polygonlabels"]
            found.append((LABELS.index(label), filled(points, size)))
        np.testing.assert_array_equal(painted(expected.shape, iter(found)), expected)
        assert len({result["id"] for result in prediction["result"]}) == len(found)
    assert not left


def test_geotiff(trip: Path, out: Path, maps: dict[str, np.ndarray]):
    with (
        rasterio.open(trip / "field.tif") as picture,
        rasterio.open(out / "geotiff/field.tif") as file,
    ):
        assert file.crs == picture.crs
        assert file.transform == picture.transform
        values = file.read(1).astype(int)
        expected = maps["field.tif"]
        np.testing.assert_array_equal(np.where(values == file.nodata, -1, values), expected)
        tags = file.tags(1)
        assert tuple(tags[str(index)] for index in range(len(LABELS))) == LABELS
        words = json.loads((out / "field.json").read_text())["words"]
        assert list(file.colormap(1)[1][:3]) == words[1]["colour"]
    # It is no picture of another run, and one without a place has none.
    assert "no picture" in segment(out / "geotiff", out / "again", out).stderr
    plain = next(path for path in (out / "geotiff").glob("x 1*.tif"))
    with Image.open(plain) as image:
        assert image.mode == "L"  # readers that apply palettes get indices all the same
        assert GEO_KEYS not in image.tag_v2


def test_geojson(out: Path, maps: dict[str, np.ndarray]):
    """Degrees where the picture has a place, pixels elsewhere."""
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom

    data = json.loads((out / "geojson/field.geojson").read_text())
    shapes = []
    for feature in data["features"]:
        shape = feature["geometry"]
        west, south, east, north = shapely.geometry.shape(shape).bounds
        assert 14.9 < west < east < 15.1
        assert 45.1 < south < north < 45.2
        assert shapely.geometry.shape(shape).exterior.is_ccw
        assert LABELS[feature["properties"]["index"]] == feature["properties"]["label"]
        shapes.append((transform_geom("EPSG:4326", UTM, shape), feature["properties"]["index"]))
    expected = maps["field.tif"]
    found = rasterize(
        shapes, expected.shape, fill=-1, transform=rasterio.Affine(*PLACE), dtype="int32"
    )
    np.testing.assert_array_equal(found, expected)

    name = next(path.stem for path in out.glob("x 1*.json"))
    picture = Path(json.loads((out / f"{name}.json").read_text())["image"])
    expected = maps[f"{picture.parent.name}/{picture.name}"]
    features = json.loads((out / f"geojson/{name}.geojson").read_text())["features"]
    shapes = [(feature["geometry"], feature["properties"]["index"]) for feature in features]
    np.testing.assert_array_equal(
        rasterize(shapes, expected.shape, fill=-1, dtype="int32"), expected
    )


def test_a_second_run_keeps_the_first_ones_pictures_and_labels(
    trip: Path, tmp_path: Path, model_folder: Path
):
    out = tmp_path / "out"
    words = ["--format", "coco"]
    assert segment(trip / "a/x 1.png", out, model_folder, *words).exit_code == 0
    other = ("zebra", "house")
    assert segment(trip / "b/x 1.png", out, model_folder, *words, labels=other).exit_code == 0
    data = json.loads((out / "coco/annotations.json").read_text())
    assert {image["file_name"] for image in data["images"]} == {"a/x 1.png", "b/x 1.png"}
    assert [each["name"] for each in data["categories"]] == ["zebra", "house", *LABELS[1:]]
    # Nothing is segmented anew, and the formats are written all the same.
    (out / "coco/annotations.json").unlink()
    words += ["--skip-existing"]
    assert segment(trip / "b/x 1.png", out, model_folder, *words, labels=other).exit_code == 0
    assert json.loads((out / "coco/annotations.json").read_text()) == data


def test_arrays_have_formats_too(tmp_path: Path, trip: Path, model_folder: Path):
    labels = np.array([[0, 1], [-1, 1]], np.int32)
    confidence = np.ones((2, 2), np.float32)
    image = np.zeros((2, 2, 3), np.uint8)
    Segmentation(image, ("a", "b"), labels, confidence).save(tmp_path / "out")
    assert (
        segment(trip / "field.tif", tmp_path / "out", model_folder, "--format", "coco").exit_code
        == 0
    )
    data = json.loads((tmp_path / "out/coco/annotations.json").read_text())
    assert {image["file_name"] for image in data["images"]} == {"image.png", "field.tif"}


def test_what_cannot_be_written_is_refused_before_the_model_is_loaded(
    trip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    missing = tmp_path / "no-model"
    out = tmp_path / "out"
    segment(trip, out, missing, "--format", "coco,voc").fails("voc", "label-studio")
    segment(trip, out, missing, "--format", "yolo", "--tolerance", -1).fails("tolerance -1")
    segment(trip, out, missing, "--format", "yolo", "--tolerance", "nan").fails("tolerance nan")
    find = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == "shapely" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr("disa.running.extras.find_spec", hidden)
    segment(trip, out, missing, "--format", "geojson").fails("shapely", "disa-seg[geo]")
    segment(trip, out, missing, "--format", "coco").fails("no-model")
    assert not list(out.glob("*"))


def test_yolo_refuses_two_pictures_of_one_name(trip: Path, tmp_path: Path, model_folder: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for suffix in ("png", "bmp"):
        Image.open(trip / "a/x 1.png").save(pictures / f"x.{suffix}")
    done = segment(pictures, tmp_path / "out", model_folder, "--format", "yolo")
    done.fails("x.bmp", "x.png")
    assert len(list((tmp_path / "out").glob("*.json"))) == 2


def test_damaged_results_are_refused(trip: Path, out: Path, tmp_path: Path, model_folder: Path):
    for name, content in (("x 1.json", "{}"), ("x 1_labels.png", "no picture")):
        copy = tmp_path / name
        shutil.copytree(out, copy)
        (copy / name).write_text(content)
        segment(trip / "field.tif", copy, model_folder, "--format", "coco").fails(name)


def test_points_of_the_ground_are_kept(tmp_path: Path, model_folder: Path):
    from rasterio.control import GroundControlPoint

    picture = tmp_path / "oblique.tif"
    corners = [(0, 0, 15.0, 45.0), (0, 60, 15.1, 45.02), (50, 0, 14.9, 44.9)]
    points = [GroundControlPoint(*corner) for corner in corners]
    profile = {"driver": "GTiff", "height": 50, "width": 60, "count": 3, "dtype": "uint8"}
    with rasterio.open(picture, "w", gcps=points, crs="EPSG:4326", **profile) as file:
        file.write(np.zeros((3, 50, 60), np.uint8))
    done = segment(picture, tmp_path / "out", model_folder, "--format", "geotiff, geojson")
    assert done.exit_code == 0
    assert "geojson: pictures without a georeference: 1" in done.stderr
    with rasterio.open(tmp_path / "out/geotiff/oblique.tif") as file:
        kept, crs = file.gcps
    assert crs == "EPSG:4326"
    assert [(each.row, each.col, each.x, each.y) for each in kept] == corners


def test_a_turned_picture_has_no_place(trip: Path, tmp_path: Path, model_folder: Path):
    """Its pixels are others than those that the transform is of."""
    tifffile = pytest.importorskip("tifffile")
    types = {33550: "d", 33922: "d", 34735: "H", 34737: "s"}  # GeoTIFF's
    with tifffile.TiffFile(trip / "field.tif") as file:
        tags = [file.pages[0].tags[tag] for tag in types]
        kept = [(tag.code, types[tag.code], tag.count, tag.value, True) for tag in tags]
    upside_down = [(274, "H", 1, 3, True)]
    for name, turn in (("upright", []), ("turned", upside_down)):
        picture = tmp_path / f"{name}.tif"
        pixels = np.zeros((50, 60, 3), np.uint8)
        tifffile.imwrite(picture, pixels, photometric="rgb", extratags=kept + turn, metadata=None)
        with rasterio.open(picture) as file:
            assert file.crs == UTM
        done = segment(picture, tmp_path / "out", model_folder, "--format", "geotiff")
        assert done.exit_code == 0
    with rasterio.open(tmp_path / "out/geotiff/upright.tif") as file:
        assert file.crs == UTM
    with Image.open(tmp_path / "out/geotiff/turned.tif") as image:
        assert GEO_KEYS not in image.tag_v2
