"""The labels of a training step: which of them take part, and their prompts."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from disa.config import IGNORED
from disa.inference.text import TextEncoder
from disa.model.disa import Disa


def choose_labels(
    present: Bool[Tensor, " t"], most: int, step: int, seed: int
) -> Int[Tensor, " m"]:
    """Return the indices of a step's labels, ascending: all present ones, then random absent ones.

    There are `most` of them, more where more are present, and all `t` if `most` is 0: to train all
    labels of a large vocabulary at once takes too much memory.
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


class Prompts:
    """Token ids of every label in every prompt; embeddings where the text tower stands still."""

    def __init__(self, model: Disa, encoder: TextEncoder, labels: tuple[str, ...]) -> None:
        ids = encoder.tokenize(labels, model.config.backbone_templates)  # t, p, l

        # The text tower is causal: the padding behind the longest text changes nothing.
        longest = int(ids.flatten(0, 1).any(0).nonzero().max()) + 1
        device = next(model.parameters()).device
        self.ids = ids[..., :longest].to(device)
        self.embeddings: Float[Tensor, "t p d"] | None = None
        if not _text_trains(model):
            with torch.no_grad():
                embeddings = model.encode_text(self.ids.flatten(0, 1))
            self.embeddings = embeddings.unflatten(0, self.ids.shape[:2])

    def of(
        self, chosen: Int[Tensor, " m"]
    ) -> tuple[Float[Tensor, "m p d"] | None, Int[Tensor, "m p l"] | None]:
        """Return the chosen labels' embeddings or their token ids; the other one is None."""
        chosen = chosen.to(self.ids.device)
        if self.embeddings is None:
            return None, self.ids[chosen]
        return self.embeddings[chosen], None


def _text_trains(model: Disa) -> bool:
    trained = model.parameter_groups()["clip"]
    return any(name.startswith("backbone.clip.text") for name in trained)
