"""Activation checkpointing: (function, arguments) -> its result, of which only the arguments are kept in training."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def recomputed(wanted: bool, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)`; if `wanted`, what it computed inside is computed again in the backward pass."""
    if wanted and torch.is_grad_enabled():
        return checkpoint(function, *arguments, use_reentrant=False)
    return function(*arguments)
