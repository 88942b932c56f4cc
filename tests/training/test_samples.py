"""Photographs as training samples: what happens to a picture happens to its labels, and nothing depends on workers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_run import small_config, small_settings
from typer.testing import CliRunner

from disa.data.dataset import open_dataset
from disa.errors import DisaError
from disa.interfaces.cli import app
from disa.model.losses import IGNORED
from disa.training.samples import (
    PADDING,
    TrainingImages,
    crop,
    dataset_source,
    jitter_colours,
    pad,
    resize_short_side,
)
from disa.training.scenes import training_batches
from disa.training.segmentation import train

SETTINGS = small_settings(steps=4, batch=3)
COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [128, 128, 128]], np.uint8)  # of labels 0, 1, 2, none


def coded(labels: np.ndarray) -> np.ndarray:
    """A picture whose colour says the label of every pixel."""
    return COLOURS[np.minimum(labels, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of different sizes in a data set of one's own; colours tell the labels."""
    root = tmp_path / "own"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number, (height, width) in enumerate([(40, 60), (64, 50), (33, 90), (80, 80), (20, 24)]):
        small = generator.choice([0, 1, 2, IGNORED], (4, 5)).astype(np.uint8)
        labels = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST))
        Image.fromarray(coded(labels)).save(root / "images" / f"p{number}.png")
        Image.fromarray(labels).save(root / "masks" / f"p{number}.png")
    (root / "classes.txt").write_text("house\nsea\ngrass\n")
    (root / "train.txt").write_text("p0\np1\np2\np3\n")
    (root / "val.txt").write_text("p4\n")
    return root


@settings(max_examples=40)
@given(st.integers(5, 70), st.integers(5, 70), st.integers(0, 10_000))
def test_labels_follow_their_pixels(height: int, width: int, seed: int):
    draw = np.random.default_rng(seed)
    labels = draw.choice([0, 1, 2, IGNORED], (height, width)).astype(np.uint8)
    image, target = crop(coded(labels), labels, 32, 1.0, draw)
    assert image.shape[:2] == target.shape and max(target.shape) <= 32
    image, target = pad(image, target, 32)
    assert image.shape == (32, 32, 3)
    np.testing.assert_array_equal(image, coded(target))  # grey padding is the colour of what is ignored
    assert COLOURS[3][0] == PADDING


@settings(max_examples=20)
@given(st.integers(5, 90), st.integers(5, 90), st.integers(16, 64))
def test_the_short_side_gets_its_length_and_labels_stay_labels(height: int, width: int, short: int):
    labels = np.zeros((height, width), np.uint8)
    labels[height // 2 :] = 2
    image, target = resize_short_side(coded(labels), labels, short)
    assert min(target.shape) == short and image.shape[:2] == target.shape
    assert abs(max(target.shape) - max(height, width) * short / min(height, width)) <= 1
    assert set(np.unique(target)) <= {0, 2}
    inner = np.s_[: int(0.4 * target.shape[0])], np.s_[int(0.6 * target.shape[0]) + 1 :]
    assert (target[inner[0]] == 0).all() and (target[inner[1]] == 2).all()


def test_a_crop_full_of_one_category_is_drawn_again():
    labels = np.zeros((32, 320), np.uint8)
    labels[:, 160:] = 1
    share = [
        np.bincount(crop(coded(labels), labels, 32, limit, np.random.default_rng(seed))[1].ravel()).max() / 32**2
        for limit in (1.0, 0.75)
        for seed in range(60)
    ]
    assert np.mean(np.array(share[:60]) == 1) > 0.7  # the border is rarely hit
    assert np.mean(np.array(share[60:]) <= 0.75) > 0.3


def test_colours_change_and_places_do_not():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    changed = [jitter_colours(image, np.random.default_rng(seed)) for seed in range(200)]
    assert all(each.shape == image.shape and each.dtype == np.uint8 for each in changed)
    assert 0 < sum(np.array_equal(each, image) for each in changed) < 50
    flat = np.full((8, 8, 3), 90, np.uint8)
    for seed in range(20):  # one colour stays one colour, whatever it becomes
        assert len(np.unique(jitter_colours(flat, np.random.default_rng(seed)).reshape(-1, 3), axis=0)) == 1


def test_contrast_multiplies_and_hue_turns_by_at_most_36_degrees():
    """One grey and one red pixel tell the operations apart: grey has no hue and no saturation to change."""
    image = np.array([[[100, 100, 100], [200, 20, 20]]], np.uint8)
    greys, hues = [], []
    for seed in range(2000):
        changed = jitter_colours(image, np.random.default_rng(seed))
        assert len(set(changed[0, 0].tolist())) == 1
        greys.append(int(changed[0, 0, 0]))
        hues.append(int(np.array(Image.fromarray(changed).convert("HSV"))[0, 1, 0]))
    # brightness +-32, then a factor of 0.5 to 1.5: not a pull towards the mean, which would leave grey near itself
    assert 34 <= min(greys) < 45 and 180 < max(greys) <= 198
    degrees = [(hue if hue < 128 else hue - 256) * 360 / 256 for hue in hues]
    assert -40 < min(degrees) < -30 and 30 < max(degrees) < 40


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(folder: Path, monkeypatch: pytest.MonkeyPatch):
    dataset, seen = open_dataset("folder", folder, "train"), []
    real = type(dataset).image
    monkeypatch.setattr(type(dataset), "image", lambda self, index: seen.append(index) or real(self, index))
    samples = TrainingImages(dataset, SETTINGS, 8)
    for index in range(20):
        samples[index]
    epochs = [tuple(seen[start : start + 4]) for start in range(0, 20, 4)]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    assert len(set(epochs)) > 1


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_starting_later_change_nothing(folder: Path, workers: int):
    source = dataset_source("folder", folder)
    assert source.labels == ("house", "sea", "grass")
    jittered = replace(SETTINGS, colour_jitter=True, scale_jitter=0.5)
    alone = list(training_batches(source.samples(jittered, 32), jittered, 0))
    shared = replace(jittered, workers=workers)
    for start in (0, 2):
        other = list(training_batches(source.samples(shared, 32), shared, start))
        for (pixels, target), (same, labels) in zip(alone[start:], other, strict=True):
            assert pixels.shape == (3, 3, 32, 32) and pixels.dtype == torch.uint8
            assert torch.equal(pixels, same) and torch.equal(target, labels)
    assert not torch.equal(alone[0][0], alone[1][0])


def test_an_interrupted_run_goes_on_bit_for_bit(folder: Path, clip_folder: Path, tmp_path: Path):
    source = dataset_source("folder", folder)
    whole = small_settings(steps=4, colour_jitter=True, categories=0)

    def losses(out: Path) -> list[float]:
        return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]

    train(small_config(), whole, tmp_path / "whole", clip_folder, source=source)
    again = tmp_path / "again"
    train(small_config(), whole, again, clip_folder, source=source)
    for checkpoint in sorted((again / "checkpoints").iterdir())[1:]:  # as if killed before the last one was written
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    train(small_config(), whole, again, clip_folder, source=source, resume=True)
    assert losses(again) == losses(tmp_path / "whole")
    assert (again / "model" / "model.safetensors").read_bytes() == (
        tmp_path / "whole/model/model.safetensors"
    ).read_bytes()
    with pytest.raises(DisaError, match=r"was trained on folder \(4 images\)"):
        train(small_config(), whole, again, clip_folder, resume=True)
    (folder / "train.txt").write_text("p0\np1\np2\n")
    with pytest.raises(DisaError, match="give the same data"):
        train(small_config(), whole, again, clip_folder, source=dataset_source("folder", folder), resume=True)


def test_from_the_command_line_and_back_through_the_evaluator(folder: Path, tmp_path: Path, model_folder: Path):
    out = tmp_path / "out"
    words = [
        "train",
        "mini",
        "--init",
        str(model_folder),
        "--dataset",
        "folder",
        "--data",
        str(folder),
        "--out",
        str(out),
    ]
    fields = ["steps=2", "batch=2", "workers=0", "bf16=false", "categories=0"]
    config = json.loads((model_folder / "config.json").read_text())["model"]
    same = [f"{n}={','.join(map(str, config[n]))}" for n in ("backbone_guidance_blocks",)] + ["backbone_image_size=48"]
    sets = [part for field in (*fields, *same) for part in ("--set", field)]
    done = CliRunner().invoke(app, [*words, "--out", str(out), *sets, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert f"disa evaluate folder --data {folder} --model {out / 'model'}" in done.stdout
    measured = CliRunner().invoke(
        app, ["evaluate", "folder", "--data", str(folder), "--model", str(out / "model"), "--out", str(tmp_path / "r")]
    )
    assert measured.exit_code == 0, measured.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "coco-stuff"], "coco-stuff needs --data DIR"),
        (["--data", "x"], "picturebook is drawn, not read"),
        (["--dataset", "folder", "--data", "no-such-folder"], "no such folder"),
        (["--dataset", "cityscapes", "--data", "."], "cityscapes"),
        (["--dataset", "coco-stuff", "--data", "."], "coco-stuff"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_in_one_line(options: list[str], message: str, tmp_path: Path):
    failed = CliRunner().invoke(app, ["train", "mini", "--init", "mini", "--out", str(tmp_path / "out"), *options])
    assert failed.exit_code == 2
    assert failed.stderr.count("\n") == 1 and message in failed.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named_in_one_line(folder: Path, workers: int):
    source = dataset_source("folder", folder)
    (folder / "images" / "p1.png").write_bytes(b"no picture")
    some = replace(SETTINGS, workers=workers)
    with pytest.raises(DisaError, match=r"p1\.png") as caught:
        list(training_batches(source.samples(some, 32), some, 0))
    assert "\n" not in str(caught.value)
