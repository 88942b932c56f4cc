"""The training labels in their prompts."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from disa.inference.text import TextEncoder
from disa.model.disa import Disa


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
