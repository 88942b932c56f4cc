"""AdamW over explicitly named parameters, and the learning rate as a function of the step."""

import math
from collections.abc import Mapping, Sequence

from torch import nn
from torch.optim import AdamW, Optimizer

from disa.training.settings import TrainConfig


def optimizer(
    model: nn.Module, groups: Mapping[str, Sequence[str]], settings: TrainConfig
) -> AdamW:
    """Return AdamW over the parameters named in `groups`, and freeze all others [B].

    `groups` has the keys `head` and `clip`, as `Disa.parameter_groups`. CLIP's learning rate is
    scaled. Vectors and scalars (norms, biases, temperatures) have no weight decay.
    """
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
