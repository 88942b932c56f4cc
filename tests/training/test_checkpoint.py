import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file

from disa.training import run_folder as module
from disa.training.optimizer import optimizer, restore_run, run_tensors
from disa.training.run_folder import Checkpoint, checkpoints, read_checkpoint, write_checkpoint
from disa.training.settings import TrainConfig


def some(step: int, size: int = 10) -> Checkpoint:
    return Checkpoint(
        {"a": torch.full((size,), float(step)), "b": torch.arange(3)}, {"step": step, "note": "x"}
    )


def test_comes_back_as_it_was_and_holds_no_pickle(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, some(7))
    tensors, state = read_checkpoint(path)
    assert state == {"step": 7, "note": "x"}
    assert torch.equal(tensors["a"], some(7).tensors["a"])
    assert torch.equal(tensors["b"], some(7).tensors["b"])
    assert sorted(file.name for file in path.iterdir()) == ["state.json", "tensors.safetensors"]
    assert json.loads((path / "state.json").read_text())["step"] == 7
    assert load_file(path / "tensors.safetensors").keys() == {"a", "b"}


def test_keeps_the_last_two(tmp_path: Path) -> None:
    for step in (5, 90, 1000):
        write_checkpoint(tmp_path, some(step))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000090", "step-00001000"]


def test_what_a_killed_run_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, some(1))
    half = tmp_path / ".disa-0123456789abcdef.part" / "step-00000002"
    half.mkdir(parents=True)
    (half / "tensors.safetensors").write_bytes(b"half")
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000001"]


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_system_stops_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, some(step, size=50_000))
    with files_no_larger_than(65_536), refused("step-00000003"):
        write_checkpoint(tmp_path, some(3, size=50_000))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000001", "step-00000002"]
    assert torch.equal(
        read_checkpoint(checkpoints(tmp_path)[-1]).tensors["a"], torch.full((50_000,), 2.0)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


def test_disk_full_at_the_last_moment_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, some(1))

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "sync", full)
    with refused("step-00000002", "No space left on device"):
        write_checkpoint(tmp_path, some(2))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000001"]
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be opened there")
def test_file_is_on_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(module, "sync", lambda path: synced.append(path.name))
    write_checkpoint(tmp_path / "all", some(2))
    assert synced == ["tensors.safetensors", "state.json", "step-00000002", "all"]


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
def test_a_damaged_one_is_named(tmp_path: Path, file: str) -> None:
    path = write_checkpoint(tmp_path, some(1))
    (path / file).write_bytes((path / file).read_bytes()[:-5])
    with refused(path):
        read_checkpoint(path)


def trained_once(seed: int) -> tuple[torch.nn.Module, torch.optim.AdamW, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 1))
    adam = optimizer(
        model, {"head": ["0.weight", "0.bias", "1.weight"], "clip": ["2.weight"]}, TrainConfig()
    )
    model(torch.randn(5, 3)).square().mean().backward()
    adam.step()
    return model, adam, {"0.weight": torch.randn(4, 3)}


def test_optimizer_averages_and_random_state_come_back(tmp_path: Path) -> None:
    model, adam, averages = trained_once(0)
    path = write_checkpoint(tmp_path, Checkpoint(run_tensors(model, adam, averages), {"step": 1}))
    drawn = torch.rand(3)
    other, its_adam, its_averages = trained_once(1)
    restore_run(read_checkpoint(path).tensors, other, its_adam, its_averages)
    assert torch.equal(torch.rand(3), drawn)
    assert torch.equal(its_averages["0.weight"], averages["0.weight"])
    torch.manual_seed(2)
    pixels = torch.randn(5, 3)
    for network, optimizer_ in ((model, adam), (other, its_adam)):
        network.zero_grad()
        network(pixels).square().mean().backward()
        optimizer_.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    model, adam, averages = trained_once(0)
    tensors = run_tensors(model, adam, averages)
    larger = torch.nn.Sequential(torch.nn.Linear(3, 5))
    with refused("0.bias", "(4,)", "(5,)"):
        restore_run(tensors, larger, optimizer(larger, {"head": ["0.weight"]}, TrainConfig()), {})
