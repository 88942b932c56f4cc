"""Picturebook's numbers by group, and the command that prints them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import invoke
from PIL import Image

import disa
from disa.data.drawn import DrawnDataset
from disa.evaluation.drawn_world import GROUPS, group_numbers, group_table
from disa.evaluation.network_probe import ProbeScores, probe
from disa.evaluation.score import Scores
from disa.picturebook import NOUNS

SIZE = 48


def scores_of(scenes: int, wrong: int | None = None) -> Scores:
    """Count scenes in which every pixel is right, but one category is taken for the next."""
    dataset = DrawnDataset("val", scenes, SIZE)
    scores = Scores(len(NOUNS), 255)
    for index, name in enumerate(dataset.ids):
        target = torch.from_numpy(dataset.labels(index).astype(np.int32))
        prediction = target.clone()
        if wrong is not None:
            prediction[target == wrong] = (wrong + 1) % len(NOUNS)
        scores.add(name, prediction, target)
    return scores


def test_the_truth_gets_full_marks() -> None:
    numbers = group_numbers(scores_of(7), ProbeScores())
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "fwiou"):
        assert numbers[name] == pytest.approx(100)
    assert numbers["boundary_iou"]["all"] == 100
    assert {value for value in numbers["groups"].values() if value is not None} == {100}
    assert numbers["itm_auc"] is numbers["saliency_ap"] is numbers["foreground_iou"] is None


def test_one_category_missed_costs_what_it_should_and_its_scene_is_the_worst() -> None:
    scenes = [DrawnDataset("val", 7, SIZE).scene(index) for index in range(7)]
    word = next(w for w in scenes[4].nouns if sum(w in scene.nouns for scene in scenes) == 1)
    scores = scores_of(7, NOUNS.index(word))
    numbers = group_numbers(scores, ProbeScores())
    assert numbers["per_class"][word]["iou"] == 0
    assert numbers["miou"] < 100
    assert scores.worst(1) == ["scene-00004"]


def test_the_probe_takes_pictures_in_batches_without_changing_a_number(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = disa.load(model_folder, device="cpu")
    dataset = DrawnDataset("val", 5, SIZE)
    together = probe(segmenter, dataset, 5)
    monkeypatch.setattr("disa.evaluation.network_probe.BATCH", 2)
    apart = probe(segmenter, dataset, 5)
    assert together.sdm is not None and apart.sdm is not None
    torch.testing.assert_close(together.sdm.itm_auc, apart.sdm.itm_auc, equal_nan=True)
    torch.testing.assert_close(together.sdm.saliency_ap, apart.sdm.saliency_ap, equal_nan=True)
    assert together.foreground_iou == apart.foreground_iou


def test_what_a_model_lacks_is_not_measured_nor_shown(
    baseline_folder: Path, paper_folder: Path
) -> None:
    dataset = DrawnDataset("val", 2, SIZE)
    baseline = probe(disa.load(baseline_folder, device="cpu"), dataset, 2)
    assert baseline.sdm is None
    assert baseline.foreground_iou is not None
    paper = probe(disa.load(paper_folder, device="cpu"), dataset, 2)
    assert paper.sdm is not None
    assert paper.foreground_iou is paper.background_iou is None
    rows = [
        group_table(group_numbers(scores_of(2), probed), "title").row_count
        for probed in (ProbeScores(), baseline, paper)
    ]
    assert rows == [2, 3, 5]


def test_command_writes_all_keys_and_the_worst_scenes(model_folder: Path, tmp_path: Path) -> None:
    file, worst = tmp_path / "numbers" / "mini.json", tmp_path / "worst"
    model = ["--model", model_folder, "--limit", 3, "--device", "cpu"]
    folders = ["--out", tmp_path / "out", "--json", file, "--save-worst", worst]
    result = invoke("evaluate", "picturebook", *model, *folders)
    assert result.exit_code == 0, result.output
    assert "mIoU %" in result.output
    numbers = json.loads(file.read_text())
    assert 0 <= numbers["miou"] <= 100
    assert 0 <= numbers["pixel_accuracy"] <= 100
    assert tuple(numbers["groups"]) == GROUPS
    assert set(numbers["per_class"]) == set(NOUNS)
    origin = {"weights_sha256", "command", "versions", "date", "commit"}
    measured = {"mean_accuracy", "fwiou", "boundary_iou", "itm_auc", "saliency_ap", "split_iou"}
    assert origin | measured | {"foreground_iou"} <= numbers.keys()
    assert len(list(worst.glob("*_truth.png"))) == len(list(worst.glob("*_prediction.png"))) == 3
    assert Image.open(next(worst.glob("*.png"))).width > SIZE


def test_scenes_of_another_size_are_measured_at_their_own(
    model_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "large.json"
    model = ["--model", model_folder, "--limit", 1, "--device", "cpu", "--json", file]
    result = invoke("evaluate", "picturebook", *model, "--out", tmp_path / "a", "--scene-size", 100)
    assert result.exit_code == 0, result.output
    assert json.loads(file.read_text())["scene_size"] == 100
    assert Image.open(next(tmp_path.glob("a/predictions/*.png"))).size == (100, 100)
    for arguments, named in ((["picturebook"], "5000"), (["folder", "--data", tmp_path], "drawn")):
        refused = invoke("evaluate", *arguments, "--scene-size", 5000)
        assert refused.exit_code == 2
        assert named in refused.output


def test_command_measures_clip_alone(model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "floor.json"
    model = ["--model", model_folder, "--limit", 2, "--dense-clip", "--device", "cpu"]
    result = invoke("evaluate", "picturebook", *model, "--out", tmp_path / "out", "--json", file)
    assert result.exit_code == 0, result.output
    numbers = json.loads(file.read_text())
    assert numbers["dense_clip"] is True
    assert numbers["itm_auc"] is None
    assert numbers["groups"].keys() == set(GROUPS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "cityscapes"], "unknown data set"),
        (["evaluate", "picturebook", "--model", "no-such"], "unknown model"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str) -> None:
    invoke(words).fails(said)
