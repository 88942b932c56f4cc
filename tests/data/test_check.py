"""What `check` counts and finds, against counting a pixel at a time."""

from collections import Counter
from pathlib import Path

import miniatures
import numpy as np
import pytest
from PIL import Image

from disa.data import parallel
from disa.data.benchmarks import find_benchmark
from disa.data.check import Findings, check
from disa.data.folder import open_folder
from disa.data.vocabulary import VOCABULARIES


def found_in(root: Path, name: str, workers: int = 1) -> Findings:
    return check(find_benchmark(name).open_official(root, "val"), workers, lambda done, total: None)


@pytest.mark.parametrize("name", [name for name in VOCABULARIES if name != "a847"])
def test_the_histogram_counts_the_official_pixels(tmp_path: Path, name: str):
    expected = miniatures.build(name, tmp_path)
    found = found_in(tmp_path, name)
    sources = find_benchmark(name).open_official(tmp_path, "val").vocabulary.source_ids
    pixels = Counter(int(label) for labels in expected.values() for label in labels.ravel())
    images = Counter(int(label) for labels in expected.values() for label in np.unique(labels))
    for label, source in enumerate(sources):
        assert found.pixels[source] == pixels[label]
        assert found.images[source] == images[label]
    assert found.pixels.total() == sum(labels.size for labels in expected.values())


def test_the_histogram_of_a847_is_that_of_the_full_size(tmp_path: Path):
    miniatures.build("a847", tmp_path)
    found = found_in(tmp_path, "a847")
    assert found.problems == []
    assert found.pixels.total() == 13 * 20 + 520 * 611 + 700 * 530
    assert set(found.pixels) <= set(miniatures.ADE_OBJECTS)


EXPECTED_PROBLEMS = {
    "coco-stuff": [
        "000000000000.png: holds 183",
        "000000000139.png: holds 183",
        "000000000278.png: holds 183",
    ],
    "a150": ["00000001.png: holds 151", "00000002.png: holds 151", "00000003.png: holds 151"],
    "pc59": [],
    "pc459": ["2009_000001.mat: holds 460 ", "2009_000002.mat: holds 460 (2 pixels)"],
    "pas20": ["2011_003276.png: holds 21 (40 pixels), which stands for nothing"],
    "pas20b": ["2011_003276.png: holds 21"],
}


@pytest.mark.parametrize("name", EXPECTED_PROBLEMS)
def test_values_out_of_range_are_problems_and_unlabelled_ones_are_not(tmp_path: Path, name: str):
    miniatures.build(name, tmp_path)
    problems = found_in(tmp_path, name).problems
    assert len(problems) == len(EXPECTED_PROBLEMS[name])
    for problem, part in zip(problems, EXPECTED_PROBLEMS[name], strict=True):
        assert part in problem


def test_images_without_any_label_are_told_apart(tmp_path: Path):
    miniatures.build("pas20", tmp_path)
    assert found_in(tmp_path, "pas20").empty == ["2007_000042"]
    assert found_in(tmp_path, "pas20b").empty == []
    miniatures.build("pc59", tmp_path)
    assert found_in(tmp_path, "pc59").empty == ["2008_000007", "2010_006000"]


def test_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    miniatures.build("coco-stuff", tmp_path)
    one = found_in(tmp_path, "coco-stuff")
    monkeypatch.setattr(parallel, "PART", 1)
    assert found_in(tmp_path, "coco-stuff", workers=2) == one


def test_damaged_pictures_and_masks_are_named_and_the_rest_is_counted(tmp_path: Path):
    root = tmp_path / "own"
    for number in range(6):
        miniatures.photograph(root / "images" / f"p{number}.jpg", 20, 30, number)
        miniatures.save_png(
            root / "masks" / f"p{number}.png", np.full((20, 30), number % 2, np.uint8)
        )
    (root / "classes.txt").write_text("sky\nsea")
    picture = (root / "images" / "p0.jpg").read_bytes()
    (root / "images" / "p0.jpg").write_bytes(picture[: len(picture) // 2])
    (root / "masks" / "p1.png").write_bytes(b"")
    miniatures.save_png(root / "masks" / "p2.png", np.zeros((20, 29), np.uint8))
    Image.new("RGB", (30, 20)).save(root / "masks" / "p3.png")
    miniatures.save_png(root / "masks" / "p4.png", np.full((20, 30), 2, np.uint8))
    found = check(open_folder(root, "val"), 1, lambda done, total: None)
    for part in (
        "p0.jpg: is damaged",
        "p1.png: is empty",
        "p2.png: is 29 x 20",
        "p3.png: has 3 channels",
        "p4.png: holds 2",
    ):
        assert sum(part in problem for problem in found.problems) == 1
    assert len(found.problems) == 5
    assert found.pixels == {1: 600, 2: 600}
