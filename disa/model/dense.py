"""Dense CLIP alone: zero training, the floor of every table. `b 3 H W, t p d -> Prediction`"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.model.backbone import Backbone
from disa.model.cost import correlate
from disa.model.disa import Prediction

CERTAIN = 1e-12  # the least probability of all other categories together: logits stay finite


class DenseClip(nn.Module):
    """Every token's scaled cosine with every category: no head, nothing learned but CLIP."""

    def __init__(self, backbone: Backbone, config: ModelConfig) -> None:
        """Use the backbone of a model with that configuration; neither is copied."""
        super().__init__()
        self.backbone, self.config = backbone, config.replace(disentangle=False)

    def forward(self, pixels: Float[Tensor, "b 3 H W"], text: Float[Tensor, "t p d"]) -> Prediction:
        """Return logits at four times the token grid; the other fields are None.

        Categories compete as in CLIP's own classification: the sigmoid of a logit is the softmax of the scaled cosines,
        averaged over prompts. A sigmoid of the cosines themselves would be 1 everywhere (decision D42).
        """
        cosine = correlate(self.backbone(pixels).tokens, text).mean(2)
        large = F.interpolate(cosine, scale_factor=4, mode="bilinear", align_corners=False)
        own = (large * self.backbone.clip.logit_scale.exp()).float().log_softmax(1)
        others = (-torch.expm1(own)).clamp_min(CERTAIN).log()
        return Prediction(own - others, None, None, None)

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return one L2-normalised embedding per row of token ids."""
        return self.backbone.encode_text(ids)
