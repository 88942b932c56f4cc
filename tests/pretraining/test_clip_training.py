"""Contrastive pretraining end to end: it learns, resumes bit for bit, and leaves a usable CLIP."""

import json
import shutil
import signal
from dataclasses import asdict, replace

import pytest
import torch
from command_line import invoke
from refusals import refused
from safetensors.torch import load_file

from disa.picturebook import SIZE
from disa.pretraining import clip_training
from disa.pretraining.captioned_pictures import render_pictures
from disa.pretraining.clip_training import ClipTraining, augment
from disa.pretraining.settings import SIDE, PretrainConfig
from disa.training.run_folder import Checkpoint, RunFolder, checkpoints, write_checkpoint

TINY = PretrainConfig(
    vision_width=16,
    vision_layers=3,
    vision_heads=2,
    patch=16,
    text_width=16,
    text_layers=1,
    text_heads=2,
    vocabulary=640,
    embedding_width=8,
    steps=6,
    mosaics=2,
    scenes=4,
    warmup=2,
    cards=24,
    pool_scenes=12,
    checkpoint_every=2,
    precision="fp32",
)


def pretrain(settings, out, resume=False):
    return clip_training.pretrain(settings, RunFolder(out), resume, "cpu")


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    pretrain(TINY, folder)
    return folder


class Pulled(Exception):
    """The plug was."""


def test_an_interrupted_run_ends_as_an_uninterrupted_one(finished, tmp_path, monkeypatch):
    step = ClipTraining.step

    def until_four(training, index, batch):
        if index == 4:
            raise Pulled
        return step(training, index, batch)

    monkeypatch.setattr(ClipTraining, "step", until_four)
    with pytest.raises(Pulled):
        pretrain(TINY, tmp_path)
    monkeypatch.undo()
    assert pretrain(TINY, tmp_path, resume=True) == tmp_path / "clip"
    whole, resumed = (
        load_file(folder / "clip" / "model.safetensors") for folder in (finished, tmp_path)
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert losses(finished) == losses(tmp_path)


def test_interrupted_command_saves_says_so_exits_with_130_and_goes_on(
    finished, tmp_path, monkeypatch
):
    step = ClipTraining.step

    def interrupted(training, index, batch):
        signal.raise_signal(signal.SIGINT)
        return step(training, index, batch)

    changes = [f"--set={name}={value}" for name, value in asdict(TINY).items()]
    words = ["pretrain-clip", "--out", str(tmp_path), "--device", "cpu", *changes]
    with monkeypatch.context() as patch:
        patch.setattr(ClipTraining, "step", interrupted)
        stopped = invoke(words)
    assert stopped.exit_code == 130
    assert "stopped after step 1" in stopped.stderr
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000001"]
    done = invoke(words)
    assert done.exit_code == 0 and f"--clip {tmp_path / 'clip'}" in done.stdout
    assert losses(tmp_path) == losses(finished)


def test_transformers_reads_the_folder(finished):
    from transformers import AutoTokenizer, CLIPModel

    model, report = CLIPModel.from_pretrained(finished / "clip", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ids = AutoTokenizer.from_pretrained(finished / "clip")(["a fish"], return_tensors="pt")[
        "input_ids"
    ]
    assert model.get_text_features(ids).pooler_output.shape == (1, 8)


def test_other_settings_and_unwanted_runs_are_refused(finished):
    with refused("seed=0"):
        pretrain(replace(TINY, seed=1), finished, resume=True)
    with refused(finished, "--resume"):
        pretrain(TINY, finished)


def test_another_number_of_steps_between_checkpoints_is_no_other_run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    assert pretrain(replace(TINY, checkpoint_every=3), tmp_path / "run", resume=True)


def test_a_folder_of_another_command_is_left_as_it_is(tmp_path):
    other = Checkpoint({"a": torch.zeros(1)}, {"step": 1, "model": {}})
    path = write_checkpoint(tmp_path / "checkpoints", other)
    with refused(path, "--out"):
        pretrain(TINY, tmp_path, resume=True)
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoints", ".lock"}


def test_few_tokens_are_drawn_until_every_quarter_has_one(tmp_path):
    """Of 36 tokens 8 are kept: often none of a quarter, whose loss would be NaN."""
    pretrain(replace(TINY, keep_tokens=8 / 36, steps=12, all_tokens_from=1.0), tmp_path)
    with refused("keep_tokens=0.1", 36, 0.22):
        replace(TINY, keep_tokens=0.1)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(tmp_path, monkeypatch):
    def nothing(*parts):
        return torch.tensor(float("nan"), requires_grad=True)

    monkeypatch.setattr(clip_training, "mosaic_loss", nothing)
    file = tmp_path / "failed-step-00000000-process-0.safetensors"
    with refused("step 0", "loss nan", file):
        pretrain(TINY, tmp_path)
    assert load_file(file)["pixels"].shape == (8, 3, 48, 48)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"patch": 7},
        {"patch": 0},
        {"seed": -1},
        {"vision_heads": 7},
        {"vision_layers": 1},
        {"lr": float("nan")},
        {"clip_norm": -1.0},
        {"keep_tokens": 0.0},
        {"all_tokens_from": 2.0},
        {"cards": 10**12},
        {"seed": 2**31},
        {"embedding_width": 0},
        {"context": -4},
        {"mosaics": 5000},
    ],
)
def test_impossible_settings_are_refused(wrong):
    ((name, value),) = wrong.items()
    with refused(f"{name}={value}"):
        PretrainConfig(**wrong)


def test_a_run_killed_after_its_last_checkpoint_still_leaves_the_clip(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    weights = (finished / "clip" / "model.safetensors").read_bytes()
    (tmp_path / "run" / "clip" / "model.safetensors").unlink()
    pretrain(TINY, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "clip" / "model.safetensors").read_bytes() == weights


def test_it_learns(finished):
    trained = losses(finished)
    longer = replace(TINY, steps=60, warmup=5, lr=3e-3, checkpoint_every=60)
    out = finished.parent / "longer"
    pretrain(longer, out)
    assert losses(out)[59] < 0.9 * trained[0]


@pytest.mark.slow
def test_pictures_are_the_same_drawn_in_one_process_or_several():
    several, one = render_pictures("cards", 260, 3), render_pictures("cards", 5, 3)
    assert torch.equal(several.pixels[:5], one.pixels) and several.captions[:5] == one.captions
    assert len(set(several.captions)) > 50


def test_augmentation_keeps_the_range_and_mirrors_half():
    pixels = render_pictures("scenes", 1, 0).pixels.expand(200, -1, -1, -1)
    seen = augment(pixels, torch.Generator().manual_seed(0))
    assert seen.min() >= 0 and seen.max() <= 255
    mirrored = (seen - pixels.flip(3)).abs().mean((1, 2, 3)) < (seen - pixels).abs().mean((1, 2, 3))
    assert 70 < mirrored.sum() < 130


def test_the_side_that_settings_know_is_that_of_scenes():
    assert SIDE == SIZE
