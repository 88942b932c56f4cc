"""Checkpoints that survive anything: written beside the old ones, made visible by one rename, read without pickle.

Signature: (tensors by name, JSON state) -> folder `step-00000100/{tensors.safetensors, state.json}` and back.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from disa.errors import DisaError
from disa.running.files import sync


class Checkpoint(NamedTuple):
    """What a run needs to go on: tensors by name (on the CPU) and plain JSON data with at least `step`."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write `folder/step-N` whole or not at all, then drop all but the newest `keep`.

    Raises `DisaError` when the disk is full or read-only; the checkpoints that were there remain.
    """
    final = folder / f"step-{checkpoint.state['step']:08d}"
    partial = folder / f".{final.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_partial(folder)
        partial.mkdir()
        tensors = {
            name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
        }
        save_file(tensors, partial / "tensors.safetensors")
        (partial / "state.json").write_text(json.dumps(checkpoint.state, indent=1))
        for path in (partial / "tensors.safetensors", partial / "state.json", partial):
            sync(path)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DisaError(
            f"{final}: cannot be written ({error}); free some space, then go on with --resume"
        ) from error
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def clear_partial(folder: Path) -> None:
    """Remove what a run that was killed while it wrote left behind."""
    for leftover in folder.glob(".step-*.partial"):
        shutil.rmtree(leftover)


def checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints under `folder`, oldest first."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        path for path in found if re.fullmatch(r"step-\d{8,}", path.name)
    )  # and not somebody's copy of one


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises `DisaError` if it is damaged."""
    state = read_state(path)
    try:
        return Checkpoint(load_file(path / "tensors.safetensors"), state)
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(path, error) from error


def read_state(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself. Raises `DisaError` if it is damaged."""
    try:
        state = json.loads((path / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise _damaged(path, ValueError("state.json names no step"))
    return state


def _damaged(path: Path, error: Exception) -> DisaError:
    return DisaError(f"{path}: damaged ({error}); delete it to go on from the checkpoint before it")


def run_tensors(
    model: nn.Module, adam: Optimizer, averages: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return everything that changes in training, by name: weights, their averages, AdamW's moments, RNG states.

    The tensors are the run's own, not copies.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in averages.items()}
    for name, parameter in _optimized(adam).items():
        tensors |= {f"adam.{key}.{name}": value for key, value in adam.state[parameter].items()}
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    return tensors


def restore_run(
    tensors: Mapping[str, Tensor], model: nn.Module, adam: Optimizer, averages: dict[str, Tensor]
) -> None:
    """Put back in place what `run_tensors` returned. Raises `DisaError` if it is of another architecture."""
    weights, own = part(tensors, "model"), model.state_dict()
    shapes, wanted = (
        {name: tuple(tensor.shape) for name, tensor in each.items()} for each in (weights, own)
    )
    if differing := sorted(
        name for name in shapes | wanted if shapes.get(name) != wanted.get(name)
    ):
        name = differing[0]
        said = f"{name} is {shapes.get(name, 'not there')}, not {wanted.get(name, 'there')}"
        raise DisaError(f"the checkpoint is of another architecture: {said}; choose another --out")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
        for name, average in averages.items():
            average.copy_(tensors[f"ema.{name}"])
    for name, parameter in _optimized(adam).items():
        # AdamW counts its steps in a CPU tensor; the moments lie beside their parameter
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (value := tensors.get(f"adam.{key}.{name}")) is not None:
                device = "cpu" if key == "step" else parameter.device
                adam.state[parameter][key] = value.to(device, copy=True)
    torch.set_rng_state(tensors["rng.cpu"])
    if torch.cuda.is_available() and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"])


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose name begins with `prefix.`, without it."""
    return {
        name[len(prefix) + 1 :]: tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _optimized(adam: Optimizer) -> dict[str, nn.Parameter]:
    return {
        name: p
        for group in adam.param_groups
        for name, p in zip(group["names"], group["params"], strict=True)
    }
