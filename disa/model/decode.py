"""The decoder: two guided x2 upsampling steps and a head, every label alone."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.enlarge import Enlarge
from disa.model.few import a_few_at_a_time
from disa.model.split import ratio

GROWTH = 3  # times that the map of things goes to the pixels


class Guides(NamedTuple):
    """What the decoder takes from an image, the same for all labels."""

    first: Float[Tensor, "b o1 h2 w2"]  # joins step 1, at twice the token grid
    second: Float[Tensor, "b o2 h4 w4"]  # joins step 2, at four times the token grid
    mix: Float[Tensor, "b h4 w4 i j n"] | None  # weights of the way to the pixels (enlarge.py)
    things: Float[Tensor, "b H W"] | None  # enlarged to the size of the logits


class Decode(nn.Module):
    """From the cost volume to logits at four times the token grid, or for every pixel.

    CLIP's first tapped map guides step 1, its second one step 2 [B]. The image's own details may
    guide both steps as well, and the way to the pixels [D].
    """

    def __init__(self, config: ModelConfig, v: int) -> None:
        super().__init__()
        source1, source2 = config.decode_guidance_source
        guide1, guide2 = config.decode_guidance_channels
        out1, out2 = config.decode_channels
        details = config.decode_detail_channels
        self.upsample1 = nn.ConvTranspose2d(v, source1, 2, stride=2)
        self.upsample2 = nn.ConvTranspose2d(v, source2, 4, stride=4)
        self.guidance1 = nn.Conv2d(source1, guide1, 3, padding=1)
        self.guidance2 = nn.Conv2d(source2, guide2, 3, padding=1)
        self.detail = _stem(details) if details else None
        # One channel for the saliency of a label, one for the things of the image.
        foreground = int(config.decode_foreground)
        incoming = config.cost_channels + foreground
        joined1 = guide1 + details + foreground
        joined2 = guide2 + details + foreground
        self.step1 = Step(incoming, config.cost_channels - guide1, joined1, out1)
        self.step2 = Step(out1, out1 - guide2, joined2, out2)
        self.head = nn.Conv2d(out2, 1, 3, padding=1)
        if config.decode_enlarge and not details:
            raise DisaError(
                "decode_enlarge follows the details of the image: set decode_detail_channels, to "
                "16 for example"
            )
        self.enlarge = Enlarge(config) if config.decode_enlarge else None
        self.reads_foreground = config.decode_foreground

    def guide(
        self,
        first: Float[Tensor, "b v h w"],
        second: Float[Tensor, "b v h w"],
        image: Float[Tensor, "b 3 H W"],
        things: Float[Tensor, "b h w"] | None = None,
    ) -> Guides:
        """Return what guides every label. `image` is normalised as CLIP's input.

        `things` grow along the image's edges alone: CLIP's maps would tell what is there, and so
        let things be learned by heart (decision D105).
        """
        guidance1 = F.relu(self.guidance1(self.upsample1(first)))  # b g1 2h 2w
        guidance2 = F.relu(self.guidance2(self.upsample2(second)))  # b g2 4h 4w
        size1 = (guidance1.shape[-2], guidance1.shape[-1])
        size2 = (guidance2.shape[-2], guidance2.shape[-1])
        mix = None
        if self.detail is not None:
            # The details shrink by averaging, so that thin lines leave a trace. Channels go last
            # in memory: convolutions take half the time.
            shown = _on_whole_cells(image, size2).contiguous(memory_format=torch.channels_last)
            detail = self.detail(shown)
            cell1 = detail.shape[-1] // size1[1]
            cell2 = detail.shape[-1] // size2[1]
            guidance1 = torch.cat([guidance1, F.avg_pool2d(detail, cell1)], 1)
            guidance2 = torch.cat([guidance2, F.avg_pool2d(detail, cell2)], 1)
            if self.enlarge is not None:
                mix = self.enlarge.weights(detail, cell2)

        if things is not None:
            if self.reads_foreground:
                thing = things.detach().sigmoid()[:, None]
                guidance1 = torch.cat([guidance1, _bilinear(thing, size1)], 1)
                guidance2 = torch.cat([guidance2, _bilinear(thing, size2)], 1)
            things = self.grow(things, mix)
        return Guides(self.step1.guide(guidance1), self.step2.guide(guidance2), mix, things)

    def grow(
        self, things: Float[Tensor, "b h w"], mix: Float[Tensor, "b h4 w4 i j n"] | None
    ) -> Float[Tensor, "b y x"]:
        """Return the map of things at four times the token grid, or at the image's size.

        A token is twice as wide as what one enlargement looks over, so the map goes to the pixels
        and back until it has met the edges of the image (decision D176).
        """
        height, width = things.shape[1:]
        maps = _bilinear(things[:, None], (4 * height, 4 * width))
        if self.enlarge is None:
            return maps[:, 0]
        assert mix is not None
        for _ in range(GROWTH - 1):
            maps = F.avg_pool2d(self.enlarge(maps, mix), mix.shape[3])
        return self.enlarge(maps, mix)[:, 0]

    def forward(
        self,
        cost: Float[Tensor, "b t c h w"],
        guides: Guides,
        saliency: Float[Tensor, "b t h w"] | None = None,
    ) -> Float[Tensor, "b t h4 w4"]:
        """Return logits at 4h x 4w, or at H x W; each label is treated alone.

        `saliency` of every label, at least 0, is for `decode_foreground`.
        """
        if self.reads_foreground:
            assert saliency is not None
            share = ratio(saliency, saliency.amax((-2, -1), keepdim=True))  # of the label's peak
            cost = torch.cat([cost, share[:, :, None].to(cost.dtype)], 2)

        kernel1 = self.step1.joined_kernel()
        kernel2 = self.step2.joined_kernel()

        def decode_labels(cost: Tensor) -> Tensor:
            # b t c h w, then twice and four times as large.
            features = self.step1(cost, guides.first, kernel1)
            features = self.step2(features, guides.second, kernel2)
            logits = self.head(rearrange(features, "b t c h w -> (b t) c h w"))
            logits = rearrange(logits, "(b t) 1 h w -> b t h w", b=cost.shape[0])
            return self._pixels(logits, guides.mix)

        widest = self.head.in_channels * 16 * cost[0, 0, 0].numel()
        return a_few_at_a_time(decode_labels, cost, widest=widest)

    def _pixels(
        self, maps: Float[Tensor, "b t h4 w4"], mix: Float[Tensor, "b h4 w4 i j n"] | None
    ) -> Float[Tensor, "b t y x"]:
        """Return the maps at the image's size, if the model goes that far."""
        if self.enlarge is None:
            return maps
        assert mix is not None
        return self.enlarge(maps, mix)


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

    def guide(self, guidance: Float[Tensor, "b g h2 w2"]) -> Float[Tensor, "b o h2 w2"]:
        """Return `conv1([bias of up, guidance])`, the same for all labels."""
        # The bias is constant over the map.
        assert self.up.bias is not None
        size = (guidance.shape[0], -1, guidance.shape[2], guidance.shape[3])
        bias = self.up.bias[None, :, None, None].expand(size)
        guided: Tensor = self.conv1(torch.cat([bias, guidance], 1))
        return guided

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        guided: Float[Tensor, "b o h2 w2"],
        kernel: Float[Tensor, "c o 4 4"],
    ) -> Float[Tensor, "b t o h2 w2"]:
        """Return the maps at twice the size.

        `guided` is of `guide`, `kernel` of `joined_kernel`: they are needed for many labels.
        """
        images = x.shape[0]

        # joined(x), for every label; the kernel begins one pixel before the value: `padding=1`.
        # Channels go last in memory, as they are in the cost volume: half the time on a CPU.
        x = rearrange(x, "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        own = F.conv_transpose2d(x, kernel, stride=2, padding=1)
        own = rearrange(own, "(b t) o h w -> b t o h w", b=images)
        x = own.add_(guided[:, None]).flatten(0, 1)

        # The two convolutions' norms and ReLUs, on every label's maps.
        x = F.relu(self.norm1(x), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        return rearrange(x, "(b t) o h w -> b t o h w", b=images)

    def joined_kernel(self) -> Float[Tensor, "c o 4 4"]:
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


def _stem(channels: int) -> nn.Sequential:
    """Return small convolutions that see edges which no token holds (decision D104)."""
    layers: list[nn.Module] = []
    for index in range(3):
        layers.append(nn.Conv2d(channels if index else 3, channels, 3, padding=1))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _on_whole_cells(
    image: Float[Tensor, "b 3 H W"], grid: tuple[int, int]
) -> Float[Tensor, "b 3 H2 W2"]:
    """Return the image at the least size that gives every cell of the grid whole pixels."""
    scale = -(-image.shape[-2] // grid[0])
    size = (scale * grid[0], scale * grid[1])
    if size == (image.shape[-2], image.shape[-1]):
        return image
    return _bilinear(image, size)


def _bilinear(maps: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c H W"]:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
