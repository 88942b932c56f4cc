"""What a run leaves on disk, besides its checkpoints."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors import SafetensorError
from safetensors.torch import load_file
from small_run import small_config, small_settings, train

import disa
from disa.evaluation.drawn_world import group_numbers
from disa.evaluation.predictions import predict
from disa.training import validation
from disa.training.learner import Learner
from disa.training.run_folder import RunFolder, checkpoints
from disa.training.run_log import open_log, read_log
from disa.training.validation import Evaluation

CONFIG, SETTINGS = small_config(), replace(small_settings(), evaluate_every=2, evaluate_images=2)


def test_every_start_is_described(clip_folder: Path, tmp_path: Path) -> None:
    train(CONFIG, replace(SETTINGS, evaluate_every=0, evaluate_images=0), tmp_path, clip_folder)
    train(
        CONFIG,
        replace(SETTINGS, evaluate_every=0, evaluate_images=0),
        tmp_path,
        clip_folder,
        resume=True,
    )
    first, second = json.loads((tmp_path / "run.json").read_text())
    assert (first["step"], second["step"]) == (0, 6)
    assert first["processes"] == 1
    assert first["training"]["lr"] == SETTINGS.lr
    assert first["model"]["cost_channels"] == CONFIG.cost_channels
    assert first["data"]["name"] == "picturebook"
    assert {"command", "commit", "date", "machine", "versions"} <= first.keys()


def test_the_best_model_is_kept(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([30.0, 40.0, 35.0])

    def of_a_kind(*counts: object) -> dict[str, object]:
        return group_numbers(*counts) | {"miou": next(measured)}

    with monkeypatch.context() as patch:
        patch.setattr(validation, "group_numbers", of_a_kind)
        train(CONFIG, SETTINGS, tmp_path, clip_folder)
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "step": 4,
        "miou": 40.0,
        "images": 2,
    }
    disa.load(tmp_path / "best", device="cpu")
    best, last = (load_file(tmp_path / name / "model.safetensors") for name in ("best", "model"))
    of_that_step = load_file(tmp_path / "checkpoints" / "step-00000004" / "tensors.safetensors")
    assert all(torch.equal(tensor, of_that_step[f"model.{name}"]) for name, tensor in best.items())
    assert any(not torch.equal(best[name], last[name]) for name in best)


@pytest.mark.slow
def test_an_evaluation_on_more_images_is_another_and_is_done(
    clip_folder: Path, tmp_path: Path
) -> None:
    train(CONFIG, SETTINGS, tmp_path, clip_folder)
    (tmp_path / "best.json").write_text('{"step": 2, "miou": 99.0, "images": 2}')
    train(CONFIG, replace(SETTINGS, evaluate_images=3), tmp_path, clip_folder, resume=True)
    assert json.loads((tmp_path / "best.json").read_text())["images"] == 3
    records = [record for record in read_log(tmp_path / "log.jsonl") if "evaluation" in record]
    assert [record["evaluation"]["images"] for record in records] == [2, 2, 2, 3]


@pytest.mark.slow
def test_an_interruption_in_an_evaluation_of_picturebook_is_answered(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*folder: Any, **options: Any) -> bool:
        signal.raise_signal(signal.SIGTERM)
        return predict(*folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "predict", interrupted)
        assert train(CONFIG, SETTINGS, tmp_path, clip_folder) is None
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000002"]
    assert train(CONFIG, SETTINGS, tmp_path, clip_folder, resume=True) is not None
    assert sum("evaluation" in record for record in read_log(tmp_path / "log.jsonl")) == 3


def test_two_runs_in_one_folder_are_refused(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("disa.training.run_folder.PATIENCE", 0.1)
    with RunFolder(tmp_path).held(), refused(tmp_path, "--out"):
        train(CONFIG, SETTINGS, tmp_path, clip_folder)
    assert not (tmp_path / "log.jsonl").exists()


def test_somebody_s_own_log_is_refused_and_kept(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 5, "mine": "precious"}')
    with refused(tmp_path / "log.jsonl", "run.json"):
        train(CONFIG, SETTINGS, tmp_path, clip_folder)
    assert "precious" in (tmp_path / "log.jsonl").read_text()


def test_somebody_s_copy_of_a_checkpoint_is_none_of_the_run_s(
    clip_folder: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, evaluate_every=0, evaluate_images=0)
    train(CONFIG, settings, tmp_path, clip_folder)
    copy = tmp_path / "checkpoints" / "step-99999999-backup"
    shutil.copytree(tmp_path / "checkpoints" / "step-00000004", copy)
    train(CONFIG, settings, tmp_path, clip_folder, resume=True)
    assert copy.is_dir()
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == [
        "step-00000004",
        "step-00000006",
    ]


@pytest.mark.slow
def test_a_run_killed_in_an_evaluation_measures_again(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pulled(Exception):
        pass

    def pulled(self: Evaluation, step: int, *rest: object) -> object:
        if step == 4:
            raise Pulled
        return call(self, step, *rest)

    call = Evaluation.__call__
    train(CONFIG, SETTINGS, tmp_path / "reference", clip_folder)
    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "__call__", pulled)
        with pytest.raises(Pulled):
            train(CONFIG, SETTINGS, tmp_path / "run", clip_folder)
    train(CONFIG, SETTINGS, tmp_path / "run", clip_folder, resume=True)
    assert read_log(tmp_path / "run" / "log.jsonl") == read_log(
        tmp_path / "reference" / "log.jsonl"
    )
    assert (tmp_path / "run" / "best.json").read_text() == (
        tmp_path / "reference" / "best.json"
    ).read_text()


def test_a_best_json_that_is_not_ours_counts_as_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "best.json").write_text("{")
    assert folder.is_best(1.0, 5)
    folder.keep_best(2, 1.0, 5)
    assert not folder.is_best(1.0, 5)
    assert folder.is_best(1.0, 6)
    assert not folder.is_best(None, 5)


def test_a_run_killed_while_it_keeps_the_best_model_keeps_it_after_all(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pulled(Exception):
        pass

    def pulled(self: Learner, folder: Path, model: object) -> None:
        draft = folder / ".disa-0123456789abcdef.part"
        draft.mkdir(parents=True)
        (draft / "model.safetensors").write_bytes(b"half")
        raise Pulled

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "export", pulled)
        with pytest.raises(Pulled):
            train(CONFIG, SETTINGS, tmp_path / "run", clip_folder)
    train(CONFIG, SETTINGS, tmp_path / "run", clip_folder, resume=True)
    train(CONFIG, SETTINGS, tmp_path / "reference", clip_folder)
    assert read_log(tmp_path / "run" / "log.jsonl") == read_log(
        tmp_path / "reference" / "log.jsonl"
    )
    assert (tmp_path / "run" / "best.json").read_text() == (
        tmp_path / "reference" / "best.json"
    ).read_text()
    assert sorted(path.name for path in (tmp_path / "run" / "best").iterdir()) == sorted(
        path.name for path in (tmp_path / "reference" / "best").iterdir()
    )


def test_a_new_run_in_an_old_folder_knows_nothing_of_the_old_one(
    clip_folder: Path, tmp_path: Path
) -> None:
    train(CONFIG, SETTINGS, tmp_path, clip_folder)
    (tmp_path / "best.json").write_text('{"step": 2, "miou": 99.0}')
    shutil.rmtree(tmp_path / "checkpoints")
    train(CONFIG, SETTINGS, tmp_path, clip_folder)
    assert json.loads((tmp_path / "best.json").read_text())["miou"] < 99


def test_a_folder_that_has_seen_no_run_keeps_what_is_in_it(
    clip_folder: Path, tmp_path: Path
) -> None:
    mine = [
        tmp_path / "evaluation" / "mine.txt",
        tmp_path / "best" / ".mine.part",
    ]
    for path in mine:
        path.parent.mkdir()
        path.write_text("mine")
    train(
        CONFIG,
        replace(SETTINGS, steps=2, evaluate_every=0, evaluate_images=0),
        tmp_path,
        clip_folder,
    )
    assert [path.read_text() for path in mine] == ["mine", "mine"]


def test_files_can_be_read_by_whom_the_user_lets(clip_folder: Path, tmp_path: Path) -> None:
    train(
        CONFIG,
        replace(SETTINGS, steps=2, evaluate_every=0, evaluate_images=0),
        tmp_path,
        clip_folder,
    )
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "model" / "model.safetensors").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("name", "content"), [("best.json", "{}"), ("best.json", "3"), ("run.json", '{"a": 1}')]
)
def test_descriptions_that_somebody_changed_do_no_harm(
    name: str, content: str, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / name).write_text(content)
    assert folder.is_best(1.0, 5)
    folder.begin({}, step=0)
    assert [start["step"] for start in json.loads((tmp_path / "run.json").read_text())] == [0]


def test_a_full_disk_is_one_error(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("disa.weights.model_folder.save_file", full)
    with refused(tmp_path, "No space left on device"):
        train(CONFIG, SETTINGS, tmp_path, clip_folder)


def test_the_norm_of_a_step_that_was_left_out_is_valid_json(tmp_path: Path) -> None:
    with open_log(tmp_path / "log.jsonl", 1, every=1) as log:
        log.step(0, {"loss": 1.0, "norm": float("inf")})
    assert read_log(tmp_path / "log.jsonl") == [{"step": 0, "loss": 1.0, "norm": None}]
    assert "Infinity" not in (tmp_path / "log.jsonl").read_text()
