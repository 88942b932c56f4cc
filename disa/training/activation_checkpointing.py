"""Less memory in training: activations are computed again for the gradient instead of being kept.

The network knows nothing of it: its blocks are wrapped from outside.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from disa.model.disa import Disa


def checkpoint_activations(model: Disa) -> None:
    """Let every block of the network keep its inputs only; gradients stay the same.

    Wrapped are CLIP's image blocks, its text tower as a whole, both halves of the SDM, each level
    of the refinement, and the decoder.
    """
    backbone = model.backbone
    _wrap(backbone, "run_block")
    _wrap(backbone, "encode_text")
    parts: list[nn.Module | None] = [model.saliency, model.disentangle, model.decode]
    for part in (*parts, *model.refine.levels):
        if part is not None:
            _wrap(part, "forward")


def _wrap(owner: nn.Module, name: str) -> None:
    """Replace a method of one module by its checkpointed form."""
    method: Callable[..., Any] = getattr(owner, name)

    @wraps(method)
    def checkpointed(*arguments: Any) -> Any:
        if not torch.is_grad_enabled():
            return method(*arguments)
        return checkpoint(method, *arguments, use_reentrant=False)

    setattr(owner, name, checkpointed)
