"""Photographs as samples: labels belong to their pixels, and nothing depends on workers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Result, invoke
from miniatures import build
from PIL import Image
from refusals import refused
from small_run import small_config, small_settings, train

from disa.config import IGNORED
from disa.data.dataset import open_dataset
from disa.training.augment import CroppedImages
from disa.training.batches import Batch, training_batches
from disa.training.run_log import read_log
from disa.training.settings import TrainConfig
from disa.training.training_data import TrainingData

SETTINGS = small_settings(steps=4, batch=3)
# What every CPU does in a moment.
ONE_STEP = (
    *("--steps", "1", "--batch", "1", "--workers", "0", "--precision", "fp32"),
    *("--device", "cpu"),
)
COLOURS = np.array(
    [[250, 10, 10], [10, 250, 10], [10, 10, 250], [128] * 3], np.uint8
)  # of labels 0, 1, 2, none


def coded(labels: np.ndarray) -> np.ndarray:
    """A picture whose colour says the label of every pixel."""
    return COLOURS[np.minimum(labels, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of different sizes in a user's data set; colours tell the labels."""
    root = tmp_path / "own"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number, (height, width) in enumerate([(40, 60), (64, 50), (33, 90), (80, 80), (20, 24)]):
        small = generator.choice([0, 1, 2, 255], (4, 5)).astype(np.uint8)
        labels = np.asarray(
            Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)
        )
        Image.fromarray(coded(labels)).save(root / "images" / f"p{number}.png")
        Image.fromarray(labels).save(root / "masks" / f"p{number}.png")
    (root / "classes.txt").write_text("house\nsea\ngrass\n")
    (root / "train.txt").write_text("p0\np1\np2\np3\n")
    (root / "val.txt").write_text("p4\n")
    return root


def batches(data: TrainingData, settings: TrainConfig, start: int) -> list[Batch]:
    with training_batches(data.samples(settings, 32), settings, start) as prepared:
        return list(prepared)


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(folder: Path):
    """Every picture gets a colour of its own, by which a sample tells where it is from."""
    for number in range(4):
        path = folder / "images" / f"p{number}.png"
        Image.new("RGB", Image.open(path).size, (number, 0, 0)).save(path)
    samples = CroppedImages(open_dataset("folder", folder, "train"), SETTINGS, 8)
    colours = [int(samples[index][0][0, 0, 0]) for index in range(20)]
    epochs = [tuple(colours[start : start + 4]) for start in range(0, 20, 4)]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    assert len(set(epochs)) > 1


def test_labels_are_those_of_their_pixels(folder: Path):
    """Scaled, cropped, mirrored: away from borders between labels the colour says the target."""
    settings = replace(SETTINGS, scale_jitter=0.5)
    samples = CroppedImages(open_dataset("folder", folder, "train"), settings, 32)
    for index in range(24):
        pixels, target = samples[index]
        assert pixels.shape == (32, 32, 3)
        assert (pixels.dtype, target.dtype) == (np.uint8, np.int64)
        assert set(np.unique(target)) <= {IGNORED, 0, 1, 2}
        agree = (pixels == COLOURS[target]).all(-1)  # -1 is the last colour: none
        assert agree.mean() > 0.55


def test_more_categories_than_a_byte_can_be_trained_on(
    folder: Path, clip_folder: Path, tmp_path: Path
):
    (folder / "classes.txt").write_text("".join(f"thing {number}\n" for number in range(847)))
    labels = np.full((40, 60), 846, np.uint16)
    labels[:, 20:], labels[:, 40:] = 255, 65535
    for number, (height, width) in enumerate([(40, 60), (64, 50), (33, 90), (80, 80), (20, 24)]):
        mask = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        mask.save(folder / "masks" / f"p{number}.png")
    data = TrainingData("folder", folder, "train")
    targets = [data.samples(SETTINGS, 32)[index][1] for index in range(8)]
    seen = set(np.unique(np.stack(targets)).tolist())
    assert seen == {IGNORED, 255, 846}
    some = small_settings(steps=1, categories=12)
    assert (
        train(small_config(), some, tmp_path / "out", clip_folder, data=data)
        == tmp_path / "out" / "model"
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_starting_later_change_nothing(folder: Path, workers: int):
    data = TrainingData("folder", folder, "train")
    assert data.labels == ("house", "sea", "grass")
    jittered = replace(SETTINGS, colour_jitter=True, scale_jitter=0.5)
    alone = batches(data, jittered, 0)
    shared = replace(jittered, workers=workers)
    for start in (0, 2):
        other = batches(data, shared, start)
        for (pixels, target), (same, labels) in zip(alone[start:], other, strict=True):
            assert pixels.shape == (3, 3, 32, 32) and pixels.dtype == torch.uint8
            assert torch.equal(pixels, same) and torch.equal(target, labels)
    assert not torch.equal(alone[0][0], alone[1][0])


def test_an_interrupted_run_goes_on_bit_for_bit(folder: Path, clip_folder: Path, tmp_path: Path):
    data = TrainingData("folder", folder, "train")
    whole = small_settings(steps=4, colour_jitter=True, categories=0)

    def losses(out: Path) -> list[float]:
        return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]

    train(small_config(), whole, tmp_path / "whole", clip_folder, data=data)
    again = tmp_path / "again"
    train(small_config(), whole, again, clip_folder, data=data)
    for checkpoint in sorted((again / "checkpoints").iterdir())[
        1:
    ]:  # as if killed before the last one was written
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    train(small_config(), whole, again, clip_folder, data=data, resume=True)
    assert losses(again) == losses(tmp_path / "whole")
    assert (again / "model" / "model.safetensors").read_bytes() == (
        tmp_path / "whole/model/model.safetensors"
    ).read_bytes()


def changed_mask(root: Path) -> None:
    path = root / "masks" / "p1.png"
    labels = np.array(Image.open(path))
    labels[:] = 0
    Image.fromarray(labels).save(path)


def changed_image(root: Path) -> None:
    path = root / "images" / "p1.png"
    Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)


def shorter_list(root: Path) -> None:
    (root / "train.txt").write_text("p0\np1\np2\n")


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (changed_mask, ["masks"]),
        (changed_image, ["images"]),
        (shorter_list, ["list of images", "images", "masks"]),
    ],
)
def test_data_that_changed_are_refused_and_what_changed_is_named(
    change: Callable[[Path], None],
    facts: list[str],
    folder: Path,
    clip_folder: Path,
    tmp_path: Path,
):
    settings = small_settings(steps=2)
    out = tmp_path / "out"

    def run() -> object:
        data = TrainingData("folder", folder, "train")
        return train(small_config(), settings, out, clip_folder, data=data, resume=True)

    assert run() == out / "model"
    (folder / "masks" / "p1.png").touch()  # a new date changes nothing
    assert run() == out / "model"
    change(folder)
    with refused("data: " + ", ".join(f"{fact} changed" for fact in facts) + ";"):
        run()
    with refused("name=folder"):
        train(small_config(), settings, out, clip_folder, resume=True)


def train_by_command(model: Path, dataset: str, data: Path, out: Path, *fields: str) -> Result:
    """Train the small model for two steps on a data set, as a user would; return what was said."""
    small = ("backbone_guidance_blocks=0,1", "backbone_image_size=48")
    sets = [part for field in (*small, *fields) for part in ("--set", field)]
    words = ["train", "mini", "--init", model, "--dataset", dataset, "--data", data, "--out", out]
    done = invoke(*words, *ONE_STEP, *sets, "--steps", "2", "--batch", "2")
    assert done.exit_code == 0, done.output
    return done


def test_from_the_command_line_and_back_through_the_evaluator(
    folder: Path, tmp_path: Path, model_folder: Path
):
    out = tmp_path / "out"
    fields = ["categories=0", "evaluate_every=1"]
    done = train_by_command(model_folder, "folder", folder, out, *fields)
    assert f"disa evaluate folder --data {folder} --model {out / 'model'}" in done.stdout
    measured = invoke(
        "evaluate", "folder", "--data", folder, "--model", out / "model", "--out", tmp_path / "r",
        "--protocol", "whole", "--json", tmp_path / "val.json",
    )  # fmt: skip
    assert measured.exit_code == 0, measured.output
    # measured on the way by the same evaluator, on the same images
    found = [
        record["evaluation"] for record in read_log(out / "log.jsonl") if "evaluation" in record
    ]
    said = json.loads((tmp_path / "val.json").read_text())
    assert len(found) == 2
    assert {name: said[name] for name in found[-1]} == found[-1]
    assert said["miou"] is not None
    assert json.loads((out / "best.json").read_text())["miou"] == max(
        each["miou"] for each in found
    )


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (["--dataset", "coco-stuff"], "--data"),
        (["--data", "x"], "picturebook"),
        (["--dataset", "folder", "--data", "no-such-folder"], "no-such-folder"),
        (["--dataset", "cityscapes", "--data", "."], "cityscapes"),
        (["--dataset", "coco-stuff", "--data", "."], "coco-stuff"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_in_one_line(
    options: list[str], fact: str, tmp_path: Path
):
    failed = invoke(["train", "mini", "--init", "mini", "--out", str(tmp_path / "out"), *options])
    assert failed.exit_code == 2
    assert failed.stderr.count("\n") == 1 and fact in failed.stderr
    assert not (tmp_path / "out").exists()


def _spoil(folder: Path, how: str) -> None:
    mask = folder / "masks" / "p3.png"
    if how == "a value that no category has":
        labels = np.array(Image.open(mask))
        labels[5, 5] = 7
        Image.fromarray(labels).save(mask)
    elif how == "another size":
        Image.fromarray(np.zeros((80, 79), np.uint8)).save(mask)
    else:
        mask.write_bytes(mask.read_bytes()[:60])


@pytest.mark.slow
def test_coco_stuff_from_its_official_files(tmp_path: Path, model_folder: Path) -> None:
    for split in ("train", "val"):
        build("coco-stuff", tmp_path / "datasets", split)
    fields = ["categories=20", "evaluate_every=1", "evaluate_images=2", "colour_jitter=true"]
    done = train_by_command(
        model_folder, "coco-stuff", tmp_path / "datasets", tmp_path / "out", *fields
    )
    assert "20 of 171 labels a step" in done.output
    records = read_log(tmp_path / "out" / "log.jsonl")
    assert [record["step"] for record in records] == [0, 0, 1, 1]
    assert records[-1]["evaluation"]["images"] == 2


def test_a_wrong_mask_that_would_be_measured_is_refused_too(folder: Path, tmp_path: Path) -> None:
    labels = np.array(Image.open(folder / "masks" / "p4.png"))  # of val.txt
    labels[5, 5] = 7
    Image.fromarray(labels).save(folder / "masks" / "p4.png")
    words = ["train", "mini", "--init", "mini", "--dataset", "folder", "--data", folder]
    words += ["--out", tmp_path / "out", *ONE_STEP]
    failed = invoke(*words)
    assert failed.exit_code == 2
    assert "p4.png: holds 7" in failed.stderr
    assert f"disa data check folder {folder} --split val" in failed.stderr
    fine = invoke(*words, "--set", "evaluate_images=0")
    assert fine.exit_code == 0, fine.output


@pytest.mark.parametrize(
    ("how", "fact"),
    [("a value that no category has", "7"), ("another size", "79 x 80"), ("damaged", "damaged")],
)
def test_a_wrong_mask_is_refused_before_the_first_step(
    folder: Path, tmp_path: Path, how: str, fact: str
):
    _spoil(folder, how)
    out = tmp_path / "out"
    words = ["train", "mini", "--init", "mini", "--dataset", "folder", "--data", folder]
    failed = invoke(*words, "--out", out, *ONE_STEP)
    assert failed.exit_code == 2
    # Its classes have no kind, of which a line before warns.
    (error,) = (line for line in failed.stderr.splitlines() if line.startswith("error: "))
    assert fact in error
    assert str(folder / "masks" / "p3.png") in error
    assert f"`disa data check folder {folder} --split train`" in failed.stderr
    assert [path.name for path in out.iterdir()] == [".lock"]
    told = invoke(["data", "check", "folder", str(folder), "--split", "train"])
    assert told.exit_code == 2 and fact in told.stdout


def test_masks_of_0_and_255_are_refused_before_the_first_step(folder: Path, tmp_path: Path):
    for mask in (folder / "masks").iterdir():
        binary = np.array(Image.open(mask)) % 2 * 255
        Image.fromarray(binary.astype(np.uint8)).save(mask)
    words = ["train", "mini", "--init", "mini", "--dataset", "folder", "--data", folder]
    failed = invoke(*words, "--out", tmp_path / "out", *ONE_STEP)
    assert failed.exit_code == 2
    error = failed.stderr.splitlines()[-1]
    assert error.startswith(f"error: {folder}: ") and "255" in error and "classes.json" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_ignored_masks_are_warned_of(folder: Path, tmp_path: Path):
    for mask in (folder / "masks").iterdir():
        ignored = np.full_like(np.array(Image.open(mask)), 255)
        Image.fromarray(ignored).save(mask)
    words = ["train", "mini", "--init", "mini", "--dataset", "folder", "--data", folder]
    done = invoke(*words, "--out", tmp_path / "out", *ONE_STEP)
    assert done.exit_code == 0, done.output
    assert any(f"{folder}: every pixel is ignored" in line for line in done.stderr.splitlines())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named_in_one_line(folder: Path, workers: int):
    data = TrainingData("folder", folder, "train")
    (folder / "images" / "p1.png").write_bytes(b"no picture")
    some = replace(SETTINGS, workers=workers)
    with refused("p1.png"):
        batches(data, some, 0)
