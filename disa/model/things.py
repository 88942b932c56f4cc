"""What is a thing, whatever the labels are (decision D105)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from disa.model.backbone import Visual

HIDDEN = 32  # channels of the layer that reads the attention


class Things(nn.Module):
    """Tells things from stuff in CLIP's own terms, so that it holds for things without a mask.

    It may know little of what a thing looks like, or it would take whatever is new for a thing. So
    it is two small readers, and neither of them trains CLIP:

    - the direction of a token, linear: where the space of images and texts puts things;
    - what CLIP's class token attends to, in every block and head (SigLIP's probe, in its only
      layer): it sums up a picture as captions do, and these name things first.
    """

    def __init__(self, d: int, heads: int) -> None:
        """Read tokens of `d` channels and `heads` maps of attention."""
        super().__init__()
        self.direction = nn.Conv2d(d, 1, 1)
        self.attention = nn.Sequential(
            nn.Conv2d(heads, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, 1, 1)
        )

    def forward(self, visual: Visual) -> Float[Tensor, "b h w"]:
        """Return a logit per token: above 0, a thing is here."""
        assert visual.attention is not None
        # Of unit length, so that the direction learns more slowly than the attention: it would soon
        # know every seen thing by heart (docs/log/bundled_model.md).
        direction = F.normalize(visual.tokens.detach(), dim=1)
        attention = visual.attention.detach()
        return (self.direction(direction) + self.attention(attention))[:, 0]
