"""Checkpoints: folders `step-00000100/{tensors.safetensors, state.json}`, read without pickle.

A checkpoint is written beside the old ones and made visible by one rename, so that neither a killed
process nor a full disk loses anything.
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
from disa.running.files import sync, write_json

TENSORS = "tensors.safetensors"
STATE = "state.json"


class Checkpoint(NamedTuple):
    """What a run needs to continue: tensors by name and plain JSON data with at least `step`."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write `folder/step-N` whole or not at all, then remove all but the newest `keep`.

    Raises `DisaError` when the disk is full or read-only; older checkpoints stay.
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
        save_file(tensors, partial / TENSORS)
        write_json(partial / STATE, checkpoint.state)

        # The rename must not reach the disk before the content does.
        for path in (partial / TENSORS, partial / STATE, partial):
            sync(path)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        sync(folder)
    except (OSError, SafetensorError, DisaError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DisaError(
            f"{final}: cannot be written ({error}); free space, then run the same command again"
        ) from error
    # Only now: until the rename, the old ones were all that there was.
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def clear_partial(folder: Path) -> None:
    """Remove what a run left behind that was killed while it wrote."""
    for leftover in folder.glob(".step-*.partial"):
        shutil.rmtree(leftover)


def checkpoints(folder: Path) -> list[Path]:
    """Return the whole checkpoints in a folder, the oldest first."""
    if not folder.is_dir():
        return []
    # Other names may be somebody's copies.
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d{8,}", path.name))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint. Raises `DisaError` if it is damaged."""
    try:
        state = json.loads((path / STATE).read_text())
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError(f"{STATE} names no step")
        return Checkpoint(load_file(path / TENSORS), state)
    except (OSError, ValueError, SafetensorError) as error:
        raise DisaError(
            f"{path}: damaged ({error}); delete it to continue from the checkpoint before it"
        ) from error


def run_tensors(
    model: nn.Module, adam: Optimizer, averages: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return everything that changes in training, by name; the tensors themselves, not copies.

    That is weights, their averages, AdamW's moments, and the states of torch's random generators.
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
    """Put back in place what `run_tensors` returned.

    Raises `DisaError`, naming the first tensor that differs, for those of another architecture.
    """
    # A checkpoint of other shapes is refused before anything is overwritten.
    own = model.state_dict()
    prefix = "model."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    for name in sorted(own.keys() | weights.keys()):
        there = tuple(weights[name].shape) if name in weights else "missing"
        wanted = tuple(own[name].shape) if name in own else "none"
        if there != wanted:
            raise DisaError(
                f"the checkpoint is of another architecture: {name} is {there}, not {wanted}; "
                "choose another --out"
            )

    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
        for name, average in averages.items():
            average.copy_(tensors[f"ema.{name}"])
    for name, parameter in _optimized(adam).items():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = tensors.get(f"adam.{key}.{name}")
            if value is not None:
                # AdamW counts its steps on the CPU; its moments lie beside their parameter.
                device = "cpu" if key == "step" else parameter.device
                adam.state[parameter][key] = value.to(device, copy=True)
    torch.set_rng_state(tensors["rng.cpu"])
    if torch.cuda.is_available() and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"])


def _optimized(adam: Optimizer) -> dict[str, nn.Parameter]:
    """Return the parameters that the optimizer changes, by name."""
    parameters: dict[str, nn.Parameter] = {}
    for group in adam.param_groups:
        parameters |= dict(zip(group["names"], group["params"], strict=True))
    return parameters
