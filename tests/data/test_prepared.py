"""Conversion made once: resumed, idempotent, never half, and refused with the command to run."""

import json
from dataclasses import replace
from pathlib import Path

import miniatures
import numpy as np
import pytest
from refusals import refused
from scipy.io import savemat

from disa.data import parallel
from disa.data.benchmarks import BENCHMARKS, find_benchmark
from disa.data.dataset import open_dataset
from disa.data.prepared import prepare, prepared_folder

PC459 = find_benchmark("pc459")


def run(
    root: Path, name: str = "pc459", workers: int = 1
) -> tuple[tuple[int, list[str]], list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    return prepare(
        find_benchmark(name), root, "val", workers, lambda done, total: told.append((done, total))
    ), told


def times(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["a847", "pc59", "pc459"])
def test_processes_make_what_one_makes(tmp_path: Path, name: str):
    for place in ("one", "two"):
        miniatures.build(name, tmp_path / place)
    assert parallel.PART > 1
    run(tmp_path / "one", name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "PART", 1)
        result, told = run(tmp_path / "two", name, workers=2)
    count = len(open_dataset(name, tmp_path / "two").ids)
    assert result == (count, [])
    assert told == [(done, count) for done in range(count + 1)]
    one, two = (
        prepared_folder(find_benchmark(name), tmp_path / place, "val") for place in ("one", "two")
    )
    files = times(one).keys()
    assert files == times(two).keys()
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)


def test_a_second_run_touches_nothing(tmp_path: Path):
    miniatures.build("pc459", tmp_path)
    assert run(tmp_path)[0] == (3, [])
    before = times(tmp_path)
    # What a run leaves that is killed after its last file, and before its draft is removed.
    for place in (".", "labels"):
        (prepared_folder(PC459, tmp_path, "val") / place / ".disa-0123456789abcdef.part").mkdir()
    assert run(tmp_path) == ((0, []), [])
    assert times(tmp_path) == before
    assert list(tmp_path.rglob(".disa-*")) == []


def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = miniatures.build("pc459", tmp_path)
    folder = prepared_folder(PC459, tmp_path, "val")
    monkeypatch.setattr(parallel, "PART", 1)
    calls: list[str] = []

    def interrupted(path: Path) -> np.ndarray:
        calls.append(path.stem)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return PC459.read_mask(path)

    monkeypatch.setitem(BENCHMARKS, "pc459", replace(PC459, read_mask=interrupted))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert [file.name for file in folder.rglob("*") if file.is_file()] == ["2009_000000.png"]
    with refused(f"disa data prepare pc459 {tmp_path}"):
        open_dataset("pc459", tmp_path)
    before = times(folder)
    assert run(tmp_path) == ((2, []), [(0, 2), (1, 2), (2, 2)])
    assert calls == ["2009_000000", "2009_000001", "2009_000001", "2009_000002"]
    assert before.items() <= times(folder).items()
    np.testing.assert_array_equal(
        open_dataset("pc459", tmp_path).labels(2), expected["2009_000002"]
    )


def test_what_is_broken_is_named_and_the_rest_is_done(tmp_path: Path):
    expected = miniatures.build("pc459", tmp_path)
    broken = tmp_path / "VOCdevkit" / "VOC2010" / "trainval" / "2009_000001.mat"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:150])
    (made, problems), _ = run(tmp_path)
    assert made == 2
    assert len(problems) == 1
    assert problems[0].startswith(str(broken))
    with refused("disa data prepare pc459"):
        open_dataset("pc459", tmp_path)
    broken.write_bytes(whole)
    assert run(tmp_path)[0] == (1, [])
    np.testing.assert_array_equal(
        open_dataset("pc459", tmp_path).labels(1), expected["2009_000001"]
    )


def test_a_lost_file_is_made_again(tmp_path: Path):
    miniatures.build("pc459", tmp_path)
    run(tmp_path)
    lost = prepared_folder(PC459, tmp_path, "val") / "labels" / "2009_000001.png"
    content = lost.read_bytes()
    lost.unlink()
    with refused(lost, "disa data prepare pc459"):
        open_dataset("pc459", tmp_path)
    assert run(tmp_path)[0] == (1, [])
    assert lost.read_bytes() == content


def test_the_folder_may_move(tmp_path: Path):
    miniatures.build("a847", tmp_path / "here")
    run(tmp_path / "here", "a847")
    (tmp_path / "here").rename(tmp_path / "there")
    dataset = open_dataset("a847", tmp_path / "there")
    assert dataset.image(0).shape[:2] == dataset.labels(0).shape


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": 99, "ids": []})])
def test_a_mark_of_another_version_or_none(tmp_path: Path, content: str):
    miniatures.build("pc459", tmp_path)
    run(tmp_path)
    (prepared_folder(PC459, tmp_path, "val") / "complete.json").write_text(content)
    for use in (lambda: open_dataset("pc459", tmp_path), lambda: run(tmp_path)):
        with refused("complete.json", f"remove {prepared_folder(PC459, tmp_path, 'val')}"):
            use()


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (
            lambda data: data.pop("annos_segmentation"),
            "annos_segmentation",
        ),
        (lambda data: data["images"].clear(), "4 val images"),
        (lambda data: data["annos_segmentation"][0].update(category_id=-1), "-1"),
        (
            lambda data: data["annos_segmentation"][0]["segmentation"].update(size=[10**6, 10**6]),
            "[9, 12]",
        ),
        (
            lambda data: data["annos_segmentation"][0]["segmentation"].update(counts=5),
            "counts",
        ),
    ],
)
def test_damaged_annotations_of_pc59(tmp_path: Path, change, fact: str):
    miniatures.build("pc59", tmp_path)
    path = tmp_path / "VOCdevkit" / "VOC2010" / "trainval_merged.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with refused(path, fact):
        run(tmp_path, "pc59")


def test_a_damaged_mask_of_pc59_is_one_problem(tmp_path: Path):
    miniatures.build("pc59", tmp_path)
    path = tmp_path / "VOCdevkit" / "VOC2010" / "trainval_merged.json"
    data = json.loads(path.read_text())
    data["annos_segmentation"][0]["segmentation"]["counts"] = "5"
    data["annos_segmentation"][-1]["segmentation"]["counts"] = [3, 100_000]
    path.write_text(json.dumps(data))
    (made, problems), _ = run(tmp_path, "pc59")
    assert made == 2
    assert len(problems) == 2
    assert all(
        "a mask is damaged (2008_00000" in line and "do not fill" in line for line in problems
    )


@pytest.mark.parametrize(
    "content", [{"Other": np.zeros((3, 3))}, {"LabelMap": np.zeros((3, 3, 2), np.uint8)}]
)
def test_mat_files_without_a_label_map(tmp_path: Path, content: dict):
    miniatures.build("pc459", tmp_path)
    savemat(tmp_path / "VOCdevkit" / "VOC2010" / "trainval" / "2009_000001.mat", content)
    (_, problems), _ = run(tmp_path)
    assert "2009_000001.mat: holds no LabelMap (H, W)" in problems[0]


def test_label_maps_of_fractions(tmp_path: Path):
    miniatures.build("pc459", tmp_path)
    savemat(
        tmp_path / "VOCdevkit" / "VOC2010" / "trainval" / "2009_000001.mat",
        {"LabelMap": np.full((20, 24), 0.5)},
    )
    (_, problems), _ = run(tmp_path)
    assert "its LabelMap has values that are no indices (float64)" in problems[0]
