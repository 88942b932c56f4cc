"""A network with its optimizer: AdamW, its learning rate, and all tensors that a step changes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from disa.errors import DisaError, one_line
from disa.training.engine import Engine
from disa.training.settings import TrainConfig


class Trainee(ABC):
    """What a run trains, in one process."""

    engine: Engine
    settings: TrainConfig
    model: nn.Module
    adam: Optimizer
    averages: dict[str, Tensor]  # of the weights that train; empty if there are none

    @abstractmethod
    def step(self, step: int, batch: Any) -> dict[str, float]:
        """Do one optimizer step and return its numbers, with at least `loss`.

        Raises `FloatingPointError`, before the weights change, if the loss is not finite.
        """


def optimizer(
    model: nn.Module, groups: Mapping[str, Sequence[str]], settings: TrainConfig
) -> AdamW:
    """Return AdamW over the parameters named in `groups`, and freeze all others [B].

    `groups` has the keys `head` and `clip`, as `Disa.parameter_groups`. CLIP's learning rate is
    scaled. Vectors and scalars (norms, biases, temperatures) have no weight decay.
    """
    # What is in no group is frozen here, so that groups and gradients cannot disagree.
    parameters = dict(model.named_parameters())
    trained = {name for names in groups.values() for name in names}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)

    # The scale stays in the group: the schedule multiplies it anew at each step.
    adam_groups = []
    for group, names in groups.items():
        scale = settings.clip_lr_scale if group == "clip" else 1.0
        matrices = [name for name in names if parameters[name].ndim > 1]
        vectors = [name for name in names if parameters[name].ndim <= 1]
        for members, decay in ((matrices, settings.weight_decay), (vectors, 0.0)):
            if members:
                adam_groups.append({
                    "params": [parameters[name] for name in members],
                    "names": members,
                    "scale": scale,
                    "lr": settings.lr * scale,
                    "weight_decay": decay,
                })  # fmt: skip
    return AdamW(adam_groups)


def learning_rate(step: int, settings: TrainConfig) -> float:
    """Return the head's learning rate at a 0-based step: linear warm-up, then a cosine to 0 [B]."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(adam: Optimizer, step: int, settings: TrainConfig) -> float:
    """Set every group's rate for `step` and return the head's."""
    rate = learning_rate(step, settings)
    for group in adam.param_groups:
        group["lr"] = rate * group["scale"]
    return rate


def run_tensors(
    model: nn.Module, adam: Optimizer, averages: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return everything that a step changes, by name; the tensors themselves, not copies.

    That is weights, their averages, AdamW's moments, and the states of torch's random generators.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in averages.items()}
    for name, parameter in _optimized(adam).items():
        tensors |= {f"adam.{key}.{name}": value for key, value in adam.state[parameter].items()}
    # A layer that draws at random must continue where it was.
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    return tensors


def restore_run(
    tensors: Mapping[str, Tensor], model: nn.Module, adam: Optimizer, averages: Mapping[str, Tensor]
) -> None:
    """Put back in place what `run_tensors` returned.

    Raises `DisaError`, naming the first tensor that differs, for those of another architecture, and
    for a damaged state of the random generator.
    """
    # A checkpoint of other shapes is refused before anything is overwritten.
    own = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    kept = own | {f"ema.{name}": tensor for name, tensor in averages.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in kept.items()}
    # AdamW knows nothing yet of a parameter that has had no gradient.
    moments = {name: moment for name, moment in _moments(adam).items() if name in tensors}
    for name, (parameter, key) in moments.items():
        shapes[name] = () if key == "step" else tuple(parameter.shape)
    others = {name for name in tensors if name.startswith("model.")}
    # The model's own tensors say it best, so they come first.
    for name in sorted(shapes.keys() | others, key=lambda name: (name not in own, name)):
        there = tuple(tensors[name].shape) if name in tensors else "missing"
        wanted = shapes.get(name, "none")
        if there != wanted:
            raise DisaError(
                f"the checkpoint is of another architecture: {name} is {there}, not {wanted}; "
                "choose another --out"
            )

    try:
        torch.set_rng_state(tensors["rng.cpu"])
        if torch.cuda.is_available() and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise DisaError(
            f"the checkpoint's random state is missing or damaged ({one_line(error)}); delete the "
            "checkpoint to continue from the one before it"
        ) from None

    # In place, because the optimizer and compiled code hold these very tensors.
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        for name, average in averages.items():
            average.copy_(tensors[f"ema.{name}"])
    for name, (parameter, key) in moments.items():
        # AdamW counts its steps on the CPU; its moments lie beside their parameter.
        device = "cpu" if key == "step" else parameter.device
        adam.state[parameter][key] = tensors[name].to(device, copy=True)


def _moments(adam: Optimizer) -> dict[str, tuple[nn.Parameter, str]]:
    """Return what AdamW keeps, by the names of `run_tensors`: of which parameter, and its key."""
    return {
        f"adam.{key}.{name}": (parameter, key)
        for name, parameter in _optimized(adam).items()
        for key in ("step", "exp_avg", "exp_avg_sq")
    }


def _optimized(adam: Optimizer) -> dict[str, nn.Parameter]:
    """Return the parameters that the optimizer changes, by name."""
    parameters: dict[str, nn.Parameter] = {}
    for group in adam.param_groups:
        parameters |= dict(zip(group["names"], group["params"], strict=True))
    return parameters
