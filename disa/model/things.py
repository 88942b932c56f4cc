"""What is a thing, whatever the labels are (decision D105)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig

HIDDEN = 64  # channels between the tokens and the evidence


class Things(nn.Module):
    """Evidence for "a thing is here", which the decoder treats as that of one more label.

    A label's evidence comes from cosines with its prompts. This one comes from CLIP's tokens
    themselves, so it knows no label and no vocabulary.
    """

    def __init__(self, config: ModelConfig, d: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(d, HIDDEN, 3, padding=1)
        self.evidence = nn.Conv2d(HIDDEN, config.cost_channels, 3, padding=1)

    def forward(self, tokens: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c h w"]:
        """Return evidence in the form of one label's cost volume."""
        # Directions alone carry meaning in CLIP's space; d ** 0.5 gives numbers of about 1.
        directions = F.normalize(tokens, dim=1) * tokens.shape[1] ** 0.5
        return self.evidence(F.relu(self.hidden(directions)))
