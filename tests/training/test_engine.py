"""One process, several, and what each refuses; started as a user starts them."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file
from small_run import new_learner, small_config, small_settings, train
from variants import VARIANTS, Variant

from disa.recipes import BASELINE
from disa.running.records import values
from disa.training import engine as engine_module
from disa.training.batches import Batch
from disa.training.engine import Engine, open_engine, refuse
from disa.training.run_log import read_log

SETTINGS = small_settings(steps=4, batch=4, ema=0.5)
COMMAND = """
import sys, torch
torch.set_num_threads(1)
from small_run import small_config
import disa.interfaces.train_command
disa.interfaces.train_command.RECIPES = {"mini": small_config}
from disa.interfaces.cli import main
sys.exit(main())
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def logged(out: Path, *names: str) -> list[list[float]]:
    return [
        [record[name] for name in names]
        for record in read_log(out / "log.jsonl")
        if "loss" in record
    ]


@pytest.fixture(scope="module")
def alone(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process does with the same batch."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("alone")
    train(small_config(), replace(SETTINGS, evaluate_images=2), out, clip_folder)
    return out


def words(clip: Path, out: Path, *changes: str) -> list[str]:
    """Return the arguments of a run with the settings of `alone`, but for the changes."""
    given = values(replace(SETTINGS, evaluate_images=2))
    settings = [f"--set={name}={value}" for name, value in given.items()]
    settings += [f"--set={change}" for change in changes]
    return ["train", "mini", f"--clip={clip}", f"--out={out}", "--device=cpu", *settings]


def command(
    launcher: tuple[str, ...], clip: Path, out: Path, *changes: str, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `disa train mini` on the small network in other processes, after Python `before`."""
    script = out.parent / "command.py"
    script.write_text(before + COMMAND)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *launcher, str(script), *words(clip, out, *changes)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def two_processes(clip: Path, out: Path, *changes: str) -> None:
    from children import run_together  # Windows has no forks

    ended = run_together(words(clip, out, *changes), out)
    assert [each.code for each in ended] == [0, 0], ended


@pytest.mark.slow
def test_two_processes_do_what_one_does(alone: Path, clip_folder: Path, tmp_path: Path) -> None:
    """Started by torchrun; other tests start them quicker."""
    changes = ("micro_batch=1", "recompute=true")
    done = command(TORCHRUN, clip_folder, tmp_path / "run", *changes)
    assert done.returncode == 0, done.stderr
    found, expected = (logged(out, "loss", "mask", "itm") for out in (tmp_path / "run", alone))
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), rtol=1e-5)
    norms = [torch.tensor(logged(out, "norm")) for out in (tmp_path / "run", alone)]
    assert torch.allclose(*norms, rtol=1e-3)
    assert '"processes": 2' in (tmp_path / "run" / "run.json").read_text()
    assert done.stderr.count("the first step took") == 1  # only the first process speaks
    assert done.stdout.count("trained 4 steps") == 1
    for file in (
        "checkpoints/step-00000004/tensors.safetensors",
        "model/model.safetensors",
        "best/model.safetensors",
    ):
        here, there = load_file(tmp_path / "run" / file), load_file(alone / file)
        assert {name: value.shape for name, value in here.items()} == {
            n: v.shape for n, v in there.items()
        }
    measured = [
        [record["evaluation"] for record in read_log(out / "log.jsonl") if "evaluation" in record]
        for out in (tmp_path / "run", alone)
    ]
    assert measured[0][0]["miou"] == pytest.approx(measured[1][0]["miou"], abs=0.5)


@pytest.mark.slow
def test_two_processes_do_without_padding_what_one_does(clip_folder: Path, tmp_path: Path) -> None:
    """With more labels than `refine_padding` its tokens get no gradient, and copies would wait."""
    train(
        small_config(refine_padding=16),
        replace(SETTINGS, categories=0),
        tmp_path / "one",
        clip_folder,
    )
    two_processes(clip_folder, tmp_path / "two", "refine_padding=16", "categories=0")
    one, two = (torch.tensor(logged(tmp_path / name, "loss", "norm")) for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-5, atol=0)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_with_one_and_back(
    alone: Path, clip_folder: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, evaluate_images=2)
    # A checkpoint does not know the number of processes: one process starts, two continue,
    source, out = alone / "checkpoints" / "step-00000002", tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    (out / "checkpoints" / source.name).symlink_to(source)
    two_processes(clip_folder, out, "checkpoints=9", "checkpoint_every=1")
    found, expected = logged(out, "loss"), logged(alone, "loss")[2:]
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), rtol=1e-5)
    # and one ends.
    back = tmp_path / "back"
    (back / "checkpoints").mkdir(parents=True)
    (back / "checkpoints" / "step-00000003").symlink_to(out / "checkpoints" / "step-00000003")
    train(small_config(), settings, back, clip_folder, resume=True)
    assert torch.allclose(
        torch.tensor(logged(back, "loss")), torch.tensor(expected[-1:]), rtol=1e-5
    )


@pytest.mark.slow
def test_two_processes_compute_in_16_bit_what_one_does(
    alone: Path, clip_folder: Path, tmp_path: Path
) -> None:
    half = replace(SETTINGS, precision="bf16", micro_batch=2)
    train(small_config(), half, tmp_path / "one", clip_folder)
    same = ("precision=bf16", "evaluate_images=0", "micro_batch=2")
    two_processes(clip_folder, tmp_path / "two", *same)
    expected, found, exact = (
        logged(out, "loss") for out in (tmp_path / "one", tmp_path / "two", alone)
    )
    assert torch.allclose(torch.tensor(found), torch.tensor(expected), rtol=2e-3)
    assert expected != exact


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), generator=generator, dtype=torch.uint8)
    target = torch.randint(0, 22, (4, 4, 4), generator=generator)
    target = target.repeat_interleave(8, 1).repeat_interleave(8, 2)
    target[0] = -1  # parts of a batch count different numbers of pixels
    target[2, :9] = -1
    return Batch(pixels, target)


@pytest.mark.parametrize("changes", [{"micro_batch": 1}, {"micro_batch": 2}, {"recompute": True}])
@pytest.mark.parametrize("model", [{}, {"loss_ignored": "negative"}])
def test_parts_of_a_batch_and_recomputing_give_its_gradient(
    changes: dict[str, Any],
    model: dict[str, Any],
    clip_folder: Path,
    batch: Batch,
) -> None:
    gradients, losses = [], []
    for settings in (SETTINGS, replace(SETTINGS, **changes)):
        with open_engine(settings, "cpu") as engine:
            torch.manual_seed(0)
            learner = new_learner(small_config(**model), settings, clip_folder, engine)
            losses.append(learner.gradients(0, batch))
        gradients.append({name: p.grad for name, p in learner.trained.items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert all(gradient is not None for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-6), name


def fp16_on_cpu(engine: Engine, **options: float) -> Engine:
    """Turn on fp16 and its scaler, which are refused on a CPU: the same code, slowly."""
    engine.dtype = torch.float16
    engine.scaler = torch.amp.GradScaler("cpu", **options)
    return engine


def test_fp16_leaves_out_steps_that_overflow_and_goes_on(clip_folder: Path, batch: Batch) -> None:
    settings = replace(SETTINGS, ema=0.0)
    with open_engine(settings, "cpu") as engine:
        torch.manual_seed(0)
        expected = new_learner(small_config(), settings, clip_folder, engine).gradients(0, batch)
        torch.manual_seed(0)
        half = fp16_on_cpu(engine, init_scale=2.0**20)
        learner = new_learner(small_config(), settings, clip_folder, half)
        before = {name: p.detach().clone() for name, p in learner.trained.items()}
        scales, moved = [], False
        while not moved:
            scales.append(engine.scale["scale"])
            numbers = learner.step(0, batch)
            moved = any(not torch.equal(p, before[name]) for name, p in learner.trained.items())
            assert moved == math.isfinite(numbers["norm"])
            assert numbers["loss"] == pytest.approx(expected["total"], rel=1e-2)
            assert numbers["loss"] != expected["total"]
        assert len(scales) > 1  # the first ones overflowed
        assert scales == [2.0**20 / 2**skipped for skipped in range(len(scales))]
        kept = engine.scale
        engine.scaler = torch.amp.GradScaler("cpu")
        engine.scale = json.loads(json.dumps(kept))  # as a checkpoint holds it
        assert engine.scale == kept


def test_fp16_that_finds_no_scale_gives_up(
    clip_folder: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MOST_SKIPPED", 3)
    with open_engine(SETTINGS, "cpu") as engine:
        never = fp16_on_cpu(engine, init_scale=2.0**100, backoff_factor=0.999)
        learner = new_learner(small_config(), SETTINGS, clip_folder, never)
        with pytest.raises(FloatingPointError, match="fp16"):
            for _ in range(4):
                learner.step(0, batch)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_every_parameter_that_trains_has_a_gradient(
    variant: Variant, clip_folder: Path, batch: Batch
) -> None:
    """Processes wait for the gradient of every one of them."""
    base = BASELINE if variant.recipe == "mini-baseline" else {}
    config = small_config(**base | variant.changes)
    with open_engine(SETTINGS, "cpu") as engine:
        learner = new_learner(config, SETTINGS, clip_folder, engine)
        learner.gradients(0, batch)
    assert [name for name, parameter in learner.trained.items() if parameter.grad is None] == []


# What dynamo makes of the model, without inductor's C++, which takes minutes on a busy CPU.
WITHOUT_CPP = """
import torch
def compiled(module, compile=torch.nn.Module.compile):
    compile(module, backend="eager")
torch.nn.Module.compile = compiled
"""


@pytest.mark.slow
def test_a_compiled_model_computes_the_same(clip_folder: Path, tmp_path: Path, alone: Path) -> None:
    out = tmp_path / "run"
    changes = ("compile=true", "evaluate_images=0")
    done = command((), clip_folder, out, *changes, before=WITHOUT_CPP)
    assert done.returncode == 0, done.stderr
    found, expected = (torch.tensor(logged(run, "loss")) for run in (out, alone))
    assert torch.allclose(found, expected, rtol=1e-3)
    assert (
        load_file(out / "model/model.safetensors").keys()
        == load_file(alone / "model/model.safetensors").keys()
    )


@pytest.mark.parametrize(
    ("changes", "processes", "facts"),
    [
        ({"batch": 4}, 3, ("batch=4", "multiple of 3")),
        ({"batch": 4, "micro_batch": 3}, 1, ("micro_batch=3", 4)),
        ({"batch": 8, "micro_batch": 8}, 2, ("micro_batch=8", 4)),
        ({"precision": "fp16"}, 1, ("precision=fp16", "precision=fp32")),
    ],
)
def test_contradictions_are_refused(
    changes: dict[str, Any], processes: int, facts: tuple[object, ...]
) -> None:
    with refused(*facts):
        refuse(replace(small_settings(), **changes), "cpu", processes)
