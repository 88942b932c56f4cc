"""AdamW over explicitly named parameters, and the learning rate as a pure function of the step.

Signature: (model, settings) -> AdamW with groups head / clip, each with and without weight decay.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import nn
from torch.optim import AdamW, Optimizer


@runtime_checkable
class Schedule(Protocol):
    """What the optimizer reads of a run's settings; units as in `disa.training.settings.TrainConfig`."""

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def warmup(self) -> int: ...  # noqa: D102
    @property
    def lr(self) -> float: ...  # noqa: D102
    @property
    def clip_lr_scale(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102


def optimizer(model: nn.Module, groups: Mapping[str, Sequence[str]], settings: Schedule) -> AdamW:
    """Return AdamW over the parameters named in `groups` and freeze all others [B].

    `groups` has the keys `head` and `clip` (`Disa.parameter_groups`). A group's `scale` is its share of the head's
    learning rate; vectors and scalars (norms, biases, temperatures) have no weight decay.
    """
    parameters = dict(model.named_parameters())
    chosen = {name for names in groups.values() for name in names}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)
    built = []
    for group, names in groups.items():
        scale = settings.clip_lr_scale if group == "clip" else 1.0
        for decay in (True, False):
            members = [name for name in names if (parameters[name].ndim > 1) == decay]
            if members:
                built.append({
                    "params": [parameters[name] for name in members],
                    "names": members,
                    "scale": scale,
                    "lr": settings.lr * scale,
                    "weight_decay": settings.weight_decay if decay else 0.0,
                })  # fmt: skip
    return AdamW(built)


def learning_rate(step: int, settings: Schedule) -> float:
    """Return the head's learning rate at `step` (0-based): linear warm-up, then a cosine to zero [B]."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_learning_rate(adam: Optimizer, step: int, settings: Schedule) -> float:
    """Set every group's rate for `step` and return the head's."""
    rate = learning_rate(step, settings)
    for group in adam.param_groups:
        group["lr"] = rate * group["scale"]
    return rate
