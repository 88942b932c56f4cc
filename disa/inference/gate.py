"""Which of many labels a picture is asked for: those that look as if they were there."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from disa.inference.request import Query


class Gate(NamedTuple):
    """How many of a picture's labels go through the head (decision D110)."""

    most: int | None  # None: all
    labels: int  # that it may leave out; those behind them compete for the background

    @property
    def closes(self) -> bool:
        """Whether any label is left out."""
        return self.most is not None and self.most < self.labels

    def choose(self, presence: Float[Tensor, " t"]) -> Int[Tensor, " m"]:
        """Return the labels with the highest presence, in their own order."""
        assert self.most is not None
        likeliest = presence[: self.labels].topk(self.most).indices.sort().values
        rest = torch.arange(self.labels, len(presence), device=presence.device)
        return torch.cat([likeliest, rest])


def gate_of(query: Query) -> Gate:
    """Return the gate that a query asks for."""
    return Gate(query.gate, len(query.labels))
