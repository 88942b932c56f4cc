"""Dense CLIP alone, the floor of every table. `b 3 H W, t p d -> Prediction`"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from disa.model.backbone import Backbone
from disa.model.cost import correlate
from disa.model.disa import Prediction


class DenseClip(nn.Module):
    """Every token's scaled cosine with every category: no head, nothing learned but CLIP."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Float[Tensor, "b 3 H W"], text: Float[Tensor, "t p d"]) -> Prediction:
        """Return logits at four times the token grid, averaged over prompts; the other fields are None."""
        cosine = correlate(self.backbone(pixels).tokens, text).mean(2)
        logits = F.interpolate(cosine, scale_factor=4, mode="bilinear", align_corners=False)
        return Prediction(logits * self.backbone.clip.logit_scale.exp(), None, None, None)
