"""The decoder: two guided x2 upsampling steps and a head, every category alone. `b t c h w -> b t 4h 4w`"""

from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig


class Decode(nn.Module):
    """Guidance for step 1 comes from the first tapped CLIP map, for step 2 from the second [B], and the image [D]."""

    def __init__(self, config: ModelConfig, v: int) -> None:
        super().__init__()
        (source1, source2), (guide1, guide2) = (
            config.decode_guidance_source,
            config.decode_guidance_channels,
        )
        (out1, out2), image = config.decode_channels, config.decode_image_channels
        self.upsample1 = nn.ConvTranspose2d(v, source1, 2, stride=2)
        self.upsample2 = nn.ConvTranspose2d(v, source2, 4, stride=4)
        self.guidance1 = nn.Conv2d(source1, guide1, 3, padding=1)
        self.guidance2 = nn.Conv2d(source2, guide2, 3, padding=1)
        self.image = _image_stem(image) if image else None
        self.step1 = Step(config.cost_channels, config.cost_channels - guide1, guide1, out1)
        self.step2 = Step(out1, out1 - guide2, guide2 + image, out2)
        self.head = nn.Conv2d(out2, 1, 3, padding=1)

    def forward(
        self,
        cost: Float[Tensor, "b t c h w"],
        first: Float[Tensor, "b v h w"],
        second: Float[Tensor, "b v h w"],
        image: Float[Tensor, "b 3 H W"],
    ) -> Float[Tensor, "b t h4 w4"]:
        """Return logits at four times the token grid. `image` is normalised as CLIP's input."""
        guidance1 = F.relu(self.guidance1(self.upsample1(first)))
        guidance2 = F.relu(self.guidance2(self.upsample2(second)))
        if self.image is not None:
            edges = self.image(
                F.adaptive_avg_pool2d(image, (guidance2.shape[-2], guidance2.shape[-1]))
            )
            guidance2 = torch.cat([guidance2, edges], 1)
        x = self.step2(self.step1(cost, guidance1), guidance2)
        logits = self.head(rearrange(x, "b t c h w -> (b t) c h w"))
        return rearrange(logits, "(b t) 1 h w -> b t h w", b=len(cost))


class Step(nn.Module):
    """Upsample x2, append guidance, then twice: 3 x 3 convolution, group norm, ReLU. Baseline quirk 20."""

    def __init__(self, channels: int, upsampled: int, guidance: int, out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, upsampled, 2, stride=2)
        self.conv1 = nn.Conv2d(upsampled + guidance, out, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(max(1, out // 16), out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(max(1, out // 16), out)

    def forward(
        self, x: Float[Tensor, "b t c h w"], guidance: Float[Tensor, "b g h2 w2"]
    ) -> Float[Tensor, "b t o h2 w2"]:
        """Return the maps at twice the size.

        Between `up` and `conv1` stands nothing but the guidance, so the two are one transposed convolution of size 4
        per category, and what the guidance and the bias add is computed once per image.
        """
        own = F.conv_transpose2d(
            rearrange(x, "b t c h w -> (b t) c h w"), self._kernel(), stride=2, padding=1
        )
        bias = cast(Tensor, self.up.bias)[None, :, None, None].expand(
            len(x), -1, *guidance.shape[2:]
        )
        shared = self.conv1(torch.cat([bias, guidance], 1))
        x = rearrange(own, "(b t) o h w -> b t o h w", b=len(x)) + shared[:, None]
        x = F.relu(self.norm1(x.flatten(0, 1)))
        x = F.relu(self.norm2(self.conv2(x)))
        return rearrange(x, "(b t) o h w -> b t o h w", b=len(guidance))

    def _kernel(self) -> Float[Tensor, "c o 4 4"]:
        """Return the convolution of `up`'s 2 x 2 kernel with `conv1`'s 3 x 3 kernel."""
        weight = self.conv1.weight[:, : self.up.out_channels]
        return F.conv_transpose2d(
            self.up.weight, rearrange(weight.flip(-1, -2), "o m h w -> m o h w")
        )


def _image_stem(channels: int) -> nn.Sequential:
    """Return two small convolutions on the image itself: edges that no token grid holds (decision D18)."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
    )
