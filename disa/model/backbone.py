"""What the network asks of a dual encoder of images and texts, whichever it is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.config import Finetune, ModelConfig
from disa.errors import DisaError
from disa.model.attention import attend

LEAST_ATTENTION = 1e-4  # in multiples of the average; its logarithm stays finite


class Visual(NamedTuple):
    """What the image tower gives to the head. No map has a place for a class token."""

    tokens: Float[Tensor, "b d h w"]  # in the space of the text, not normalised
    first: Float[Tensor, "b v h w"]  # output of block guidance_blocks[0]
    second: Float[Tensor, "b v h w"]  # output of block guidance_blocks[1]
    # What the token that stands for the whole image attends to, in `a` maps (`log_share`); None
    # unless the head asks for it.
    attention: Float[Tensor, "b a h w"] | None = None


class Backbone(nn.Module, ABC):
    """A dual encoder whose image tower gives one embedding per patch instead of one per image.

    The two towers are transformers' own, built alike, and called `clip` in the weights whichever
    they are. An encoder adds how images and texts come into one space, what its pixels are
    normalised by, and which of its parameters the network has no use for (decision D160).
    """

    pixel_mean: ClassVar[tuple[float, float, float]]  # of RGB in 0..255
    pixel_std: ClassVar[tuple[float, float, float]]

    def __init__(self, config: ModelConfig, clip: Any) -> None:
        """Take the two towers. Raises `DisaError` for guidance and a size that do not fit them."""
        super().__init__()
        self.clip = clip
        self.guidance_blocks = config.backbone_guidance_blocks
        self.returns_attention = config.things
        depth = len(self.whole_blocks)
        if not 0 <= min(self.guidance_blocks) <= max(self.guidance_blocks) < depth:
            raise DisaError(
                f"backbone_guidance_blocks {self.guidance_blocks}: choose two blocks from 0 to "
                f"{depth - 1}"
            )
        if config.backbone_image_size % self.patch_size:
            raise DisaError(
                f"backbone_image_size {config.backbone_image_size}: must be a multiple of CLIP's "
                f"patch, {self.patch_size}; choose the recipe for this CLIP, or another size"
            )
        set_finetune(self, config.backbone_finetune)

    @property
    def patch_size(self) -> int:
        """Pixels per side of a patch."""
        return self.clip.vision_model.config.patch_size

    @property
    def vision_width(self) -> int:
        """`v`, the width of the image tower's blocks."""
        return self.clip.vision_model.config.hidden_size

    @property
    @abstractmethod
    def embedding_width(self) -> int:
        """`d`, the width that images and text share."""

    @property
    @abstractmethod
    def attention_maps(self) -> int:
        """`a`, the number of maps in `Visual.attention`."""

    @property
    @abstractmethod
    def whole_blocks(self) -> nn.ModuleList:
        """The image blocks that run as transformers wrote them, which alone can guide."""

    @abstractmethod
    def forward(self, pixels: Float[Tensor, "b 3 H W"]) -> Visual:
        """Return dense tokens and two earlier maps of RGB pixels in 0..255.

        Raises `DisaError` if `H` or `W` is not a multiple of the patch.
        """

    @abstractmethod
    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return the L2-normalised embedding of each row of token ids, padded with 0."""

    @abstractmethod
    def idle(self) -> tuple[str, ...]:
        """Return how the names of the parameters begin that never reach the output."""

    def normalise(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """Return RGB in 0..255 as the image tower wants it: (x - mean) / std per channel."""
        mean = pixels.new_tensor(self.pixel_mean)[:, None, None]
        std = pixels.new_tensor(self.pixel_std)[:, None, None]
        return (pixels - mean) / std

    def grid(self, pixels: Float[Tensor, "b 3 H W"]) -> tuple[int, int]:
        """Return the patches of an image in rows and columns.

        Raises `DisaError` if a side is not a multiple of the patch.
        """
        height, width = pixels.shape[-2:]
        patch = self.patch_size
        if height % patch or width % patch:
            raise DisaError(
                f"image of {width} x {height} pixels: both sides must be multiples of the patch, "
                f"{patch}"
            )
        return height // patch, width // patch

    def embed_patches(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n v"]:
        """Return a token per patch, which knows nothing of its position yet."""
        # A convolution with the patch as its kernel and stride: one token per patch.
        patches = self.clip.vision_model.embeddings.patch_embedding(self.normalise(pixels))
        return rearrange(patches, "b v h w -> b (h w) v")

    def run_block(self, block: Any, tokens: Float[Tensor, "b m v"]) -> Float[Tensor, "b m v"]:
        """Return the output of one of the whole image blocks.

        The attention is ours, because it trains faster than transformers' on a CPU.
        """
        attention = block.self_attn
        heads = attention.num_heads
        normed = block.layer_norm1(tokens)
        query = rearrange(attention.q_proj(normed), "b m (a e) -> b a m e", a=heads)
        key = rearrange(attention.k_proj(normed), "b m (a e) -> b a m e", a=heads)
        value = rearrange(attention.v_proj(normed), "b m (a e) -> b a m e", a=heads)

        mixed = rearrange(attend(query, key, value), "b a m e -> b m (a e)")
        tokens = tokens + attention.out_proj(mixed)
        return tokens + block.mlp(block.layer_norm2(tokens))

    def restore_buffers(self) -> None:
        """Give real values to the buffers that no weights file holds.

        A network that is built on the meta device needs them after its weights are loaded.
        """
        for embeddings in (self.clip.vision_model.embeddings, self.clip.text_model.embeddings):
            count = embeddings.position_embedding.num_embeddings
            device = embeddings.position_embedding.weight.device
            embeddings.position_ids = torch.arange(count, device=device)[None]


def resize_positions(
    positions: Float[Tensor, "m v"], grid: tuple[int, int], before: int = 0
) -> Float[Tensor, "n v"]:
    """Return the position embeddings of another grid; the first `before` are not of the grid.

    They are resized bicubically, without antialiasing, and a class token's stays as it is (baseline
    quirk 7).
    """
    # An encoder's own grid is a square; rounding undoes the square root's error.
    side = int((len(positions) - before) ** 0.5 + 0.5)
    # An export leaves the grid free; resizing to the same one changes nothing.
    if not torch.compiler.is_exporting() and grid == (side, side):
        return positions

    native = rearrange(positions[before:], "(h w) v -> 1 v h w", h=side)
    resized = F.interpolate(native, grid, mode="bicubic", align_corners=False)
    return torch.cat([positions[:before], rearrange(resized, "1 v h w -> (h w) v")])


def log_share(share: Float[Tensor, "b a n"]) -> Float[Tensor, "b a n"]:
    """Return how much is attended to each patch: log of multiples of the average."""
    return (share * share.shape[-1]).clamp_min(LEAST_ATTENTION).log()


def trainable_names(backbone: Backbone, mode: Finetune) -> list[str]:
    """Return the parameters that `mode` trains, in both towers; biases only in `full`."""
    # What never reaches the output, no mode trains (decision D19).
    names = [name for name, _ in backbone.named_parameters()]
    used = [name for name in names if not name.startswith(backbone.idle())]
    if mode == "full":
        return used
    if mode == "frozen":
        return []

    # The mode is spelled by the letters of the projections that it trains.
    endings = tuple(f".self_attn.{letter}_proj.weight" for letter in mode)
    return [name for name in used if name.endswith(endings)]


def set_finetune(backbone: Backbone, mode: Finetune) -> None:
    """Let exactly `trainable_names` of the backbone receive gradients."""
    trained = set(trainable_names(backbone, mode))
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)
