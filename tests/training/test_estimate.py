"""What is said of memory, time and space before the first step, and what is refused."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from small_run import small_config, small_settings

from disa.errors import DisaError
from disa.model.count import parameters
from disa.model.disa import Disa
from disa.recipes import vit_b16
from disa.training import estimate
from disa.training.engine import open_engine
from disa.training.estimate import check_disk, check_memory, memory, step_seconds
from disa.training.learner import Learner
from disa.training.loop import train
from disa.training.run_folder import RunFolder

CONFIG, SETTINGS = small_config(), small_settings()


@pytest.fixture
def learner(clip_folder: Path) -> Iterator[Learner]:
    with open_engine(SETTINGS, "cpu") as engine:
        yield Learner(CONFIG, SETTINGS, clip_folder, None, engine)


def test_weights_and_optimizer_are_counted_exactly() -> None:
    model = Disa(CONFIG)
    needed = memory(CONFIG, SETTINGS, 12, 6)
    assert needed.weights == 4 * parameters(model)["total"]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert needed.optimizer == 3 * 4 * trained  # a gradient and two moments
    assert memory(CONFIG, replace(SETTINGS, ema=0.9), 12, 6).optimizer == 4 * 4 * trained
    assert (
        memory(CONFIG, replace(SETTINGS, shard=True), 12, 6, processes=2).optimizer
        == needed.optimizer // 2
    )
    assert needed.total == sum(needed)


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"micro_batch": 1}, 12),
        ({"recompute": True}, 12),
        ({"precision": "bf16"}, 12),
        ({}, 6),
        ({"image_size": 16}, 12),
    ],
)
def test_what_saves_memory_is_estimated_to(changes: dict[str, Any], labels: int) -> None:
    before = memory(CONFIG, SETTINGS, 12, 6)
    after = memory(CONFIG, replace(SETTINGS, **changes), labels, 6)
    assert after.activations < 0.8 * before.activations
    assert after[:2] == before[:2]


def test_activations_grow_with_the_batch() -> None:
    one, four = (
        memory(CONFIG, replace(SETTINGS, batch=size), 12, 6).activations for size in (1, 4)
    )
    assert 2 < four / one <= 4  # the text tower's do not grow
    assert memory(CONFIG, replace(SETTINGS, batch=8), 12, 6, processes=2).activations == four


def test_true_size_is_estimated_without_taking_the_memory() -> None:
    """The recipe's promise: CLIP frozen, one image at a time, within 12 GB."""
    frozen = vit_b16(backbone_finetune="frozen")
    needed = memory(frozen, replace(SETTINGS, batch=4, micro_batch=1, image_size=384), 171, 12)
    assert 1e9 < needed.total < 12e9


def test_too_little_memory_is_refused_with_what_to_change(
    learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Little(NamedTuple):
        total: int

    needed = memory(CONFIG, SETTINGS, 12, 6)
    assert check_memory(needed, learner.engine) > 0
    monkeypatch.setattr(estimate.psutil, "virtual_memory", lambda: Little(needed.total - 1))
    with pytest.raises(DisaError, match="set micro_batch=1"):
        check_memory(needed, learner.engine)


@pytest.mark.parametrize(
    ("limit", "there"), [("1000\n", 1000), ("max\n", 5000), (None, 5000), ("9000", 5000)]
)
def test_a_container_s_limit_counts(
    limit: str | None, there: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Machine(NamedTuple):
        total: int = 5000

    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(estimate.psutil, "virtual_memory", Machine)
    monkeypatch.setattr(estimate, "CONTAINER_LIMITS", (tmp_path / "memory.max",))
    assert estimate.machine_memory() == there


def test_a_step_of_noise_is_timed_and_leaves_no_trace(learner: Learner) -> None:
    before, state = (
        {n: p.detach().clone() for n, p in learner.trained.items()},
        torch.get_rng_state(),
    )
    assert step_seconds(learner, 32) > 0
    assert all(
        torch.equal(p, before[name]) and p.grad is None for name, p in learner.trained.items()
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    written = tmp_path / "written"
    train(CONFIG, replace(SETTINGS, evaluate_images=2), written, clip_folder)
    size = sum(path.stat().st_size for path in written.rglob("*.safetensors"))
    largest = max(path.stat().st_size for path in written.rglob("tensors.safetensors"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(int(0.9 * (size + largest))))
    with pytest.raises(DisaError, match=r"keeps 2 checkpoints.*free some space") as refused:
        train(CONFIG, replace(SETTINGS, evaluate_images=2), tmp_path / "out", clip_folder)
    said = float(re.search(r"about (\S+) GB", str(refused.value))[1])
    assert said == pytest.approx((size + largest) / 1e9, abs=0.01)
    assert (
        not (tmp_path / "out" / "log.jsonl").exists()
        or not (tmp_path / "out" / "log.jsonl").read_text()
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(int(1.2 * (size + largest))))
    train(CONFIG, replace(SETTINGS, evaluate_images=2), tmp_path / "out", clip_folder)


def test_a_resumed_run_needs_room_for_one_more(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    folder = RunFolder(tmp_path)
    checkpoint = 4 * parameters(learner.model)["total"] + 2 * 4 * sum(
        p.numel() for p in learner.trained.values()
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2 * checkpoint))
    with pytest.raises(DisaError):
        check_disk(learner, folder)
    for name in ("checkpoints/step-00000002", "checkpoints/step-00000004", "model", "best"):
        (tmp_path / name).mkdir(parents=True)
    check_disk(learner, folder)
