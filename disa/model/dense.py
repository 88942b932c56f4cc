"""Dense CLIP alone: no head and no training, the floor of every table."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.model.backbone import Backbone
from disa.model.cost import best_token, correlate
from disa.model.disa import Prediction

CERTAIN = 1e-12  # the least probability of all other labels together: logits stay finite


class DenseClip(nn.Module):
    """Every token's cosine with every label, compared as CLIP compares images with texts.

    The sigmoid of a logit is the softmax `q` over labels of `scale * cosine`, so a logit is
    `log q - log(1 - q)`. A sigmoid of the scaled cosines themselves would be 1 everywhere
    (decisions D42 and D51).
    """

    def __init__(self, backbone: Backbone, config: ModelConfig) -> None:
        """Use the backbone of a model with that configuration; neither is copied."""
        super().__init__()
        self.backbone = backbone
        # No part of the head is here.
        self.config = config.replace(disentangle=False, things=False, decode_enlarge=False)

    @property
    def patch_size(self) -> int:
        """Pixels per side of a patch."""
        return self.backbone.patch_size

    def forward(self, pixels: Float[Tensor, "b 3 H W"], text: Float[Tensor, "t p d"]) -> Prediction:
        """Return logits at four times the token grid, as `Disa` does; the other fields are None."""
        return self.answer(self.look(pixels), text)

    def look(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d h w"]:
        """Return what no label changes: the dense tokens."""
        tokens: Tensor = self.backbone(pixels).tokens
        return tokens

    def presence(
        self, tokens: Float[Tensor, "b d h w"], text: Float[Tensor, "t p d"]
    ) -> Float[Tensor, "b t"]:
        """Return the cosine of each label's best token, as `Disa` does."""
        return best_token(correlate(tokens, text))

    def answer(self, tokens: Float[Tensor, "b d h w"], text: Float[Tensor, "t p d"]) -> Prediction:
        """Return what the images say to these labels."""
        # A label's cosine is the mean over its prompts.
        cosine = correlate(tokens, text).mean(2)  # b t h w

        # CLIP's temperature makes probabilities of cosines that differ by a few hundredths.
        large = F.interpolate(cosine, scale_factor=4, mode="bilinear", align_corners=False)
        scaled = large * self.backbone.clip.logit_scale.exp()

        # 1 - q is taken from log q, since q itself may round to 1.
        log_own = scaled.float().log_softmax(1)
        log_others = (-torch.expm1(log_own)).clamp_min(CERTAIN).log()
        return Prediction(log_own - log_others, None, None, None)

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return one L2-normalised embedding per row of token ids."""
        return self.backbone.encode_text(ids)
