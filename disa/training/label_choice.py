"""Which labels take part in a training step: all of a large vocabulary would cost too much."""

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from disa.config import IGNORED


def choose_labels(
    present: Bool[Tensor, " t"], most: int, step: int, seed: int
) -> Int[Tensor, " m"]:
    """Return the indices of a step's labels, ascending: all present ones, then random absent ones.

    There are `most` of them, more where more are present, and all `t` if `most` is 0.
    """
    if most == 0 or most >= len(present):
        return torch.arange(len(present))
    present = present.cpu()
    shown = present.nonzero().flatten()
    absent = (~present).nonzero().flatten()
    # A resumed run draws the same.
    entropy = np.random.SeedSequence((seed, step)).generate_state(1)[0]
    draw = torch.Generator().manual_seed(int(entropy))
    order = torch.randperm(len(absent), generator=draw)
    added = absent[order[: max(0, most - len(shown))]]
    return torch.cat([shown, added]).sort().values


def relabel(target: Int[Tensor, "b H W"], chosen: Int[Tensor, " m"]) -> Int[Tensor, "b H W"]:
    """Return the target with indices into `chosen`, which ascends.

    Pixels of labels that are not chosen become `IGNORED`.
    """
    chosen = chosen.to(target.device)
    places = torch.searchsorted(chosen, target).clamp(max=len(chosen) - 1)
    return torch.where(chosen[places] == target, places, IGNORED)
