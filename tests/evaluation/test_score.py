"""Counting label maps: as scikit-learn counts, and clear about maps that do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from memory_dataset import Miniature
from PIL import Image
from refusals import refused
from sklearn.metrics import confusion_matrix, jaccard_score

from disa.evaluation.predictions import PredictionFolder, predict
from disa.evaluation.score import Scores, score


def predicted(path: Path, dataset: Miniature) -> Path:
    folder = PredictionFolder(path, dataset, len(dataset.ids))
    folder.open({})
    predict(folder, dataset.predict)
    return path


@pytest.mark.parametrize(("categories", "ignored"), [(5, 255), (420, 65535)])
def test_counts_what_scikit_learn_counts_over_the_whole_set(
    tmp_path: Path, categories: int, ignored: int
):
    dataset = Miniature(categories=categories, ignored=ignored)
    scores = score(predicted(tmp_path, dataset), dataset)
    pairs = [(dataset.labels(i), dataset.predict(dataset.image(i)).numpy()) for i in range(7)]
    true = np.concatenate([labels[labels != ignored] for labels, _ in pairs])
    taken = np.concatenate([found[labels != ignored] for labels, found in pairs])
    confusion = scores.confusion
    assert np.array_equal(confusion.counts, confusion_matrix(true, taken, labels=range(categories)))
    present = np.unique(true)
    expected = jaccard_score(true, taken, labels=present, average="macro")
    assert confusion.miou == pytest.approx(expected)
    assert confusion.miou_all == pytest.approx(confusion.miou * len(present) / categories)
    for index, (name, miou) in enumerate(scores.images.items()):
        labels, found = pairs[index]
        valid = labels != ignored
        own = np.unique(labels[valid])
        expected = jaccard_score(labels[valid], found[valid], labels=own, average="macro")
        assert name == dataset.ids[index]
        assert miou == pytest.approx(expected)


def test_a_corrected_mask_is_counted_and_told_apart(tmp_path: Path):
    dataset = Miniature()
    before = score(predicted(tmp_path, dataset), dataset)
    truth = dataset.labels
    dataset.labels = lambda index: truth(index).T.copy().T if index else 0 * truth(0) + 1
    dataset.mask_content = lambda index: f"mask {index} corrected"
    after = score(tmp_path, dataset)
    assert before.confusion.miou != after.confusion.miou
    assert before.masks_sha256 != after.masks_sha256


def test_maps_of_another_tool_may_be_grey_and_of_16_bits(tmp_path: Path):
    dataset = Miniature()
    ours = score(predicted(tmp_path / "ours", dataset), dataset)
    (tmp_path / "theirs").mkdir()
    for index, name in enumerate(dataset.ids):
        labels = dataset.predict(dataset.image(index)).numpy().astype(np.uint16)
        Image.fromarray(labels).save(tmp_path / "theirs" / f"{name}.png")
    theirs = score(tmp_path / "theirs", dataset)
    assert torch.equal(ours.confusion.counts, theirs.confusion.counts)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda labels: labels[:-1], ("35 x 31", "35 x 32")),
        (lambda labels: labels + 5, ("outside 0 .. 4",)),
        (lambda labels: np.stack([labels] * 3, -1), ("3 channels",)),
    ],
)
def test_a_map_that_does_not_fit_is_named(tmp_path: Path, change, facts: tuple[str, ...]):
    dataset = Miniature()
    path = predicted(tmp_path, dataset) / "picture-2.png"
    Image.fromarray(change(np.array(Image.open(path)))).save(path)
    with refused(path, *facts):
        score(tmp_path, dataset)


def test_a_map_that_is_missing_is_named(tmp_path: Path):
    dataset = Miniature()
    (predicted(tmp_path, dataset) / "picture-5.png").unlink()
    with refused("picture-5.png"):
        score(tmp_path, dataset)
    assert len(score(tmp_path, dataset, dataset.ids[:5]).images) == 5


def test_worst_images_have_the_lowest_miou_of_their_own():
    scores = Scores(2, 255)
    target = torch.zeros(4, 4, dtype=torch.int32)
    for name, wrong in (("a", 2), ("b", 0), ("c", 3)):
        prediction = target.clone()
        prediction[:wrong] = 1
        scores.add(name, prediction, target)
    scores.add("unknown", target, torch.full_like(target, 255))  # neither good nor bad
    assert scores.worst(2) == ["c", "a"]
