"""Contrastive learning of a small CLIP, whose dense tokens must stay local (decision D3).

Two kinds of batches alternate. *Scenes* pair a picture with its caption, by the class token and by
the mean of the dense tokens. *Mosaics* put four cards into one picture and pair the dense tokens of
each quarter with its card's caption: the captions of the other quarters are negatives within the
same picture.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from disa.model.clip import ClipBackbone


def mosaics(
    cards: Float[Tensor, "m 3 S S"], shift: tuple[int, int], patch: int
) -> Float[Tensor, "b 3 H W"]:
    """Return pictures of 2 x 2 cards each, rolled by `shift` (down, right) patches."""
    pictures = rearrange(cards, "(b i j) c h w -> b c (i h) (j w)", i=2, j=2)
    return torch.roll(pictures, (shift[0] * patch, shift[1] * patch), (2, 3))


def quarters(grid: int, shift: tuple[int, int]) -> Int[Tensor, " n"]:
    """Return the quarter, 0 to 3, that each token of a rolled mosaic shows."""
    # 0 for the first half of an axis, 1 for the second, before the picture is rolled.
    half = (torch.arange(grid) >= grid // 2).long()
    return torch.roll(2 * half[:, None] + half[None], shift, (0, 1)).flatten()


def image_features(
    backbone: ClipBackbone, pixels: Float[Tensor, "b 3 H W"], kept: Int[Tensor, " k"] | None
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b k d"]]:
    """Return the embeddings of the class token and of the dense tokens, neither normalised.

    `kept` are the tokens that the network sees, None for all. Dense tokens come by the value path,
    as in segmentation.
    """
    vision = backbone.clip.vision_model
    tokens = backbone.embed(pixels)  # b, 1 + n, width
    # Dropped tokens save time, as in FLIP (Li et al., 2023); the class token always stays.
    if kept is not None:
        tokens = torch.cat([tokens[:, :1], tokens[:, 1:][:, kept]], 1)
    for block in vision.encoder.layers[:-1]:
        tokens = block(tokens, attention_mask=None)

    # The last block gives dense tokens by its values, and the class token by its attention.
    dense = backbone.dense(tokens)
    whole = vision.encoder.layers[-1](tokens, attention_mask=None)[:, 0]
    return backbone.clip.visual_projection(vision.post_layernorm(whole)), dense


def scene_loss(
    backbone: ClipBackbone,
    pixels: Float[Tensor, "b 3 H W"],
    ids: Int[Tensor, "b l"],
    kept: Int[Tensor, " k"] | None,
) -> Float[Tensor, ""]:
    """Return the mean of the contrastive losses of the class token and of the mean dense token."""
    whole, dense = image_features(backbone, pixels, kept)
    # Every caption is compared with the picture twice: with its class token, b d, and with the
    # mean of its dense tokens, b d, so that both end in the same space.
    text = backbone.encode_text(ids)
    same = same_caption(ids)
    scale = backbone.clip.logit_scale.exp()
    mean_dense = F.normalize(dense, dim=-1).mean(1)
    losses = [
        contrastive(scale * F.normalize(image, dim=-1) @ text.T, same)
        for image in (whole, mean_dense)
    ]
    return torch.stack(losses).mean()


def mosaic_loss(
    backbone: ClipBackbone,
    cards: Float[Tensor, "m 3 S S"],
    ids: Int[Tensor, "m l"],
    shift: tuple[int, int],
    kept: Int[Tensor, " k"] | None,
    sharpness: float,
) -> Float[Tensor, ""]:
    """Return the contrastive loss of the quarters of mosaics against the captions of their cards.

    `shift` (down, right) counts patches.
    """
    pictures = mosaics(cards, shift, backbone.patch_size)
    _, dense = image_features(backbone, pictures, kept)
    quarter_of_token = quarters(pictures.shape[-1] // backbone.patch_size, shift).to(dense.device)
    if kept is not None:
        quarter_of_token = quarter_of_token[kept]

    # Every token is compared with every caption, then pooled within its quarter.
    similarity = F.normalize(dense, dim=-1) @ backbone.encode_text(ids).T  # b k m
    pooled = pool_quarters(similarity, quarter_of_token, sharpness)  # q m
    return contrastive(backbone.clip.logit_scale.exp() * pooled, same_caption(ids))


def pool_quarters(
    similarity: Float[Tensor, "b k m"], quarter_of_token: Int[Tensor, " k"], sharpness: float
) -> Float[Tensor, "q m"]:
    """Return the similarity of each quarter (q = 4 b) to each caption.

    Tokens are weighted by how well they fit the caption: a `sharpness` of 0 is the plain mean over
    the quarter's tokens, infinity the best token alone.
    """
    # Tokens of other quarters get no weight in the softmax over tokens.
    numbers = torch.arange(4, device=similarity.device)
    is_outside = quarter_of_token[None, :, None] != numbers[:, None, None]  # 4 k 1
    logits = (sharpness * similarity)[:, None].masked_fill(is_outside, float("-inf"))
    pooled = (logits.softmax(2) * similarity[:, None]).sum(2)
    return rearrange(pooled, "b q m -> (b q) m")


def contrastive(logits: Float[Tensor, "m m"], same: Bool[Tensor, "m m"]) -> Float[Tensor, ""]:
    """Return the symmetric cross-entropy of a matrix of similarities.

    Equal captions share the right answer.
    """
    # Rows are pictures, columns captions; each row of the target sums to 1.
    target = same / same.sum(1, keepdim=True)
    rows = -(target * logits.log_softmax(1)).sum(1).mean()
    columns = -(target * logits.log_softmax(0)).sum(0).mean()
    return (rows + columns) / 2


def same_caption(ids: Int[Tensor, "m l"]) -> Bool[Tensor, "m m"]:
    """Return which captions are equal, word for word."""
    return (ids[:, None] == ids[None]).all(-1)
