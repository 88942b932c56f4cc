import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import disa
from disa.errors import DisaError
from disa.inference.segmentation import Segmentation
from disa.running import files

WORDS = ("House", "boat|ship", "zebra")


def result(**changes: object) -> Segmentation:
    labels = np.zeros((40, 60), np.int32)
    labels[:10], labels[10:20] = 1, -1
    confidence = np.full((40, 60), 0.75, np.float32)
    confidence[:10] = 0.5
    saliency = np.zeros((3, 4, 6), np.float32)
    saliency[0, 3], saliency[1, 0, 0] = 2.0, 0.5
    things = np.zeros((4, 6), np.float32)
    things[:, :3] = 0.9
    defaults = {
        "image": np.full((40, 60, 3), 90, np.uint8),
        "words": WORDS,
        "labels": labels,
        "confidence": confidence,
        "background": 0.4,
        "matched": {"House": 0.9, "boat|ship": 0.6, "zebra": 0.1},
        "token_saliency": saliency,
        "things": things,
        "source": "in/photo.jpg",
    }
    return Segmentation(**{**defaults, **changes})


def test_areas_and_mean_scores_count_what_each_word_won():
    assert result().areas == {"House": 1200, "boat|ship": 600, "zebra": 0}
    assert result().mean_scores == {"House": 0.75, "boat|ship": 0.5, "zebra": None}


def test_json_is_plain_and_adds_up():
    data = json.loads(json.dumps(result().to_json()))
    assert data["image"] == "in/photo.jpg"
    assert (data["width"], data["height"]) == (60, 40)
    assert data["words"][1] == {
        "word": "boat|ship",
        "index": 1,
        "colour": [0x8F, 0x5A, 0x3C],
        "area": 600,
        "share": 0.25,
        "mean_score": 0.5,
        "matched": 0.6,
    }
    assert data["background"] == {"policy": 0.4, "area": 600, "share": 0.25}
    assert sum(word["share"] for word in data["words"]) + data["background"][
        "share"
    ] == pytest.approx(1)


def test_saliency_is_scaled_to_its_own_peak_and_the_pictures_size():
    saliency = result().saliency
    assert list(saliency) == list(WORDS)
    for word, peak in [("House", 1), ("boat|ship", 1), ("zebra", 0)]:
        assert saliency[word].shape == (40, 60)
        assert saliency[word].max() == peak
    assert saliency["House"][35:].min() == 1
    assert saliency["boat|ship"].argmax() < 60 * 10
    with pytest.raises(KeyError, match="'ship' is none of the labels"):
        saliency["ship"]


def test_foreground_is_where_a_thing_is_likelier_than_none():
    foreground = result().foreground
    assert foreground.dtype == bool
    assert foreground[:, :26].all()
    assert not foreground[:, 36:].any()


def test_saved_files_hold_the_result(tmp_path: Path):
    scores = np.random.default_rng(0).random((3, 40, 60), np.float32)
    paths = result(scores=scores).save(tmp_path / "new" / "folder", saliency=True)
    names = [
        "photo_overlay.png",
        "photo_labels.png",
        "photo_saliency.png",
        "photo_scores.npz",
        "photo.json",
    ]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(names)
    indexed = Image.open(paths[1])
    assert indexed.mode == "L"  # whatever reads it, OpenCV too, gets the indices
    np.testing.assert_array_equal(
        np.asarray(indexed), np.where(result().labels < 0, 255, result().labels)
    )
    assert json.loads(paths[-1].read_text()) == result().to_json()
    with np.load(paths[3]) as stored:
        np.testing.assert_allclose(stored["scores"], scores, atol=1e-3)
        assert tuple(stored["words"]) == WORDS
    (coloured, json_file) = result().save(tmp_path / "coloured", overlay=False, grey=False)
    with Image.open(coloured) as shown:
        assert shown.mode == "P"
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(indexed))
        colours = [word["colour"] for word in json.loads(json_file.read_text())["words"]]
        assert shown.getpalette()[: 3 * len(WORDS)] == np.ravel(colours).tolist()
    assert [path.name for path in result(source=None).save(tmp_path)][2] == "image.json"
    assert [path.name for path in result().save(tmp_path, "mine")][2] == "mine.json"


def test_a_tilde_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "a.png")
    disa.load(model_folder, "cpu").save_pretrained("~/model")
    segmenter = disa.load("~/model", "cpu")
    for image in ("~/a.png", Path("~/a.png")):
        segmenter(image, "sea").save("~/out", overlay=False)
    (tmp_path / "~").mkdir()
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(tmp_path / "~" / "a.png")
    assert segmenter("./~/a.png", "sea").labels.shape == (5, 5)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a_labels.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "model", "out", "~"]


def test_results_by_one_name_stand_side_by_side(tmp_path: Path):
    """Arrays, and equal stems of two folders; the same picture's own results are replaced."""
    for source, stem in [
        (None, "image"),
        (None, "image-2"),
        ("a/photo.jpg", "photo"),
        ("b/photo.jpg", "photo-2"),
        ("a/photo.jpg", "photo"),
        ("b/../b/photo.jpg", "photo-2"),
        ("b/photo.png", "photo-3"),
    ]:
        assert result(source=source).save(tmp_path, overlay=False)[-1].stem == stem
    (tmp_path / "mine.json").write_text("not of disa")
    (path,) = {path.stem for path in result(source="mine.png").save(tmp_path)[-1:]}
    assert path == "mine-2"
    assert result(source="other.png").save(tmp_path, "photo")[-1].stem == "photo"


def test_a_result_is_shown_in_short():
    shown = repr(result())
    assert len(shown) < 120
    for fact in ("photo.jpg", "60 x 40", "House 50%", "boat|ship 25%"):
        assert fact in shown
    many = tuple(f"thing {number}" for number in range(1000))
    assert len(repr(result(words=many, source=None))) < 160
    with Image.open(io.BytesIO(result()._repr_png_())) as picture:
        assert picture.size == result().overlay().size
    assert result().overlay(beside=True).size != result().overlay().size


def test_masks_by_label():
    found = result()
    np.testing.assert_array_equal(found.mask("House"), found.labels == 0)
    for label in ("boat|ship", "ship", " Boat"):
        np.testing.assert_array_equal(found.mask(label), found.labels == 1)
    assert not found.mask("zebra").any()
    with pytest.raises(DisaError, match=r"cow.*House, boat\|ship, zebra"):
        found.mask("cow")


def test_coco_reads_what_to_coco_gives(tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco")
    found = result()
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(found.to_coco()))
    read = coco.COCO(path)
    (image,) = read.loadImgs(read.getImgIds())
    assert (image["file_name"], image["width"], image["height"]) == ("photo.jpg", 60, 40)
    categories = {each["id"]: each["name"] for each in read.loadCats(read.getCatIds())}
    assert tuple(categories.values()) == WORDS
    annotations = read.loadAnns(read.getAnnIds())
    assert len(annotations) == 2
    for annotation in annotations:
        mask = found.mask(categories[annotation["category_id"]])
        np.testing.assert_array_equal(read.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum()
        left, top, width, height = annotation["bbox"]
        assert mask[top : top + height, left : left + width].sum() == mask.sum()


def test_supervision_takes_what_to_supervision_gives():
    supervision = pytest.importorskip("supervision")
    found = result()
    detections = found.to_supervision()
    assert list(detections["class_name"]) == list(WORDS[:2])  # no pixel is of the third
    np.testing.assert_array_equal(detections.class_id, [0, 1])
    for word, mask, confidence in zip(WORDS, detections.mask, detections.confidence, strict=False):
        np.testing.assert_array_equal(mask, found.mask(word))
        assert confidence == pytest.approx(found.mean_scores[word])
    picture = supervision.MaskAnnotator().annotate(found.image.copy(), detections)
    assert (picture != found.image).any()
    nothing = result(labels=np.full_like(found.labels, -1)).to_supervision()
    assert len(nothing) == 0


def test_to_supervision_without_it_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(DisaError, match=r"pip install 'disa-seg\[supervision\]'"):
        result().to_supervision()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted(file: object) -> None:
        file.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, interrupted)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_are_refused(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below", Path("/proc/nowhere"), tmp_path / ("x" * 300)):
        with pytest.raises(DisaError, match="choose another"):
            result().save(folder)
    with pytest.raises(DisaError, match="cannot be written"):
        result().save(tmp_path, "no/such/folder")


def test_plot_draws_the_picture_and_the_overlay():
    figure = result().plot()
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape[1] > 2 * shown.shape[0] / 40 * 60 * 0.9  # both pictures side by side


def test_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(DisaError, match=r"matplotlib"):
        result().plot()
