"""The decoder: two guided x2 upsampling steps and a head, every label alone."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig


class Decode(nn.Module):
    """From the cost volume to logits at four times the token grid.

    CLIP's first tapped map guides step 1, its second one step 2 [B]. The image's own edges may
    guide step 2 as well [D].
    """

    def __init__(self, config: ModelConfig, v: int) -> None:
        super().__init__()
        source1, source2 = config.decode_guidance_source
        guide1, guide2 = config.decode_guidance_channels
        out1, out2 = config.decode_channels
        edges = config.decode_image_channels
        self.upsample1 = nn.ConvTranspose2d(v, source1, 2, stride=2)
        self.upsample2 = nn.ConvTranspose2d(v, source2, 4, stride=4)
        self.guidance1 = nn.Conv2d(source1, guide1, 3, padding=1)
        self.guidance2 = nn.Conv2d(source2, guide2, 3, padding=1)
        self.image = _edge_stem(edges) if edges else None
        self.step1 = Step(config.cost_channels, config.cost_channels - guide1, guide1, out1)
        self.step2 = Step(out1, out1 - guide2, guide2 + edges, out2)
        self.head = nn.Conv2d(out2, 1, 3, padding=1)

    def forward(
        self,
        cost: Float[Tensor, "b t c h w"],
        first: Float[Tensor, "b v h w"],
        second: Float[Tensor, "b v h w"],
        image: Float[Tensor, "b 3 H W"],
    ) -> Float[Tensor, "b t h4 w4"]:
        """Return logits at 4h x 4w. `image` is normalised as CLIP's input."""
        # Guidance is made once per image, at the sizes of the two steps.
        guidance1 = F.relu(self.guidance1(self.upsample1(first)))  # b g1 2h 2w
        guidance2 = F.relu(self.guidance2(self.upsample2(second)))  # b g2 4h 4w
        if self.image is not None:
            # The image shrinks by averaging, so that thin lines leave a trace.
            size = (guidance2.shape[-2], guidance2.shape[-1])
            edges = self.image(F.adaptive_avg_pool2d(image, size))
            guidance2 = torch.cat([guidance2, edges], 1)

        # Every label alone: b t c h w, then twice and four times as large.
        x = self.step1(cost, guidance1)
        x = self.step2(x, guidance2)
        logits = self.head(rearrange(x, "b t c h w -> (b t) c h w"))
        return rearrange(logits, "(b t) 1 h w -> b t h w", b=len(cost))


class Step(nn.Module):
    """Upsample x2, append guidance, then twice: 3 x 3 convolution, group norm, ReLU.

    These are the baseline's layers (baseline quirk 20), computed with less work:
    `conv1([up(x), guidance])` is the first convolution of a step. Nothing but the guidance stands
    between `up` and `conv1`, and both are linear, so it is a sum (decision D24):

        conv1([up(x), guidance]) = joined(x) + conv1([bias of up, guidance])

    `joined` is one transposed convolution of 4 x 4 that does the work of `up`, without its bias,
    and of the part of `conv1` that reads it. It is applied to every label, the second summand once
    to every image.
    """

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
        """Return the maps at twice the size."""
        images = len(x)

        # joined(x), for every label; the kernel begins one pixel before the value: `padding=1`.
        x = rearrange(x, "b t c h w -> (b t) c h w")
        own = F.conv_transpose2d(x, self._joined_kernel(), stride=2, padding=1)
        own = rearrange(own, "(b t) o h w -> b t o h w", b=images)

        # conv1([bias of up, guidance]), once per image; the bias is constant over the map.
        assert self.up.bias is not None
        bias = self.up.bias[None, :, None, None].expand(images, -1, *guidance.shape[2:])
        shared = self.conv1(torch.cat([bias, guidance], 1))  # b o 2h 2w

        # The two convolutions' norms and ReLUs, on every label's maps.
        x = (own + shared[:, None]).flatten(0, 1)
        x = F.relu(self.norm1(x))
        x = F.relu(self.norm2(self.conv2(x)))
        return rearrange(x, "(b t) o h w -> b t o h w", b=images)

    def _joined_kernel(self) -> Float[Tensor, "c o 4 4"]:
        """Return the composition of the 2 x 2 kernel of `up` and the 3 x 3 kernel of `conv1`.

        `up` spreads a value x to the places i = 0, 1 as `x U[i]`. `conv1` spreads what stands at
        place i to its outputs i + 1 - j, for j = 0, 1, 2, as `V[j]` times it. With k = 2 - j,

            output at s - 1 = x * (sum of U[i] V[2 - k] over all i + k = s),  s = 0 .. 3

        which is the full convolution of U with the flipped V. A transposed convolution computes
        it, and sums over the channels m between the two.
        """
        weight = self.conv1.weight[:, : self.up.out_channels]
        flipped = rearrange(weight.flip(-1, -2), "o m h w -> m o h w")
        return F.conv_transpose2d(self.up.weight, flipped)


def _edge_stem(channels: int) -> nn.Sequential:
    """Return two small convolutions that see edges which no token holds (decision D18)."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
    )
