"""The whole network, one line per box of the paper's figure. `b 3 H W, t p d -> Prediction`"""

from typing import NamedTuple

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.backbone import Backbone
from disa.model.cost import Cost, correlate
from disa.model.decode import Decode
from disa.model.disentangle import Disentangle
from disa.model.recompute import recomputed
from disa.model.refine import Refine
from disa.model.saliency import Saliency, SaliencyModule
from disa.model.starts import Starts


class Prediction(NamedTuple):
    """What the network says of each image and category. The last three are None without the SDM."""

    logits: Float[Tensor, "b t h4 w4"]  # 4h x 4w
    saliency: Float[Tensor, "b t h w"] | None  # Grad-CAM saliency, at least 0, not normalised
    matched: Float[Tensor, "b t"] | None  # image-text matching logit
    foreground: (
        Float[Tensor, "b t h w"] | None
    )  # the split: 1 foreground to 0 background; 0 for dropped categories

    def float(self) -> "Prediction":
        """Return it in 32 bit, whatever it was computed in."""
        rest = (None if value is None else value.float() for value in self[1:])
        return Prediction(self.logits.float(), *rest)


class Disa(nn.Module):
    """Saliency-aware open-vocabulary segmentation: a pure function of pixels and text embeddings.

    It knows no vocabulary, file, device or window. With `disentangle`, `refine_category_reweight` and
    `refine_semantic` off it is the baseline, parameter for parameter.
    """

    recompute = (
        False  # in training, compute activations again for the gradient instead of keeping them
    )

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.max_categories_by == "itm" and not config.disentangle:
            raise DisaError(
                "max_categories_by='itm' ranks by the SDM's matched logit: turn disentangle on"
            )
        self.config = config
        start = Starts()
        self.backbone = Backbone(config)
        d = self.backbone.embedding_width
        self.cost = start("cost", lambda: Cost(config))
        self.saliency = (
            start("saliency", lambda: SaliencyModule(config, d)) if config.disentangle else None
        )
        self.disentangle = (
            start("disentangle", lambda: Disentangle(config, d)) if config.disentangle else None
        )
        self.refine = start("refine", lambda: Refine(config, d))
        self.decode = start("decode", lambda: Decode(config, self.backbone.vision_width))

    def forward(self, pixels: Float[Tensor, "b 3 H W"], text: Float[Tensor, "t p d"]) -> Prediction:
        """Return logits, and what the SDM found, for 0..255 RGB pixels and L2-normalised prompt embeddings.

        Sides are multiples of the patch. Beyond `max_categories` only the likeliest of each image are computed; the
        others get `dropped_logit`.
        """
        if text.shape[1] != len(self.config.backbone_templates):
            raise DisaError(
                f"text with {text.shape[1]} prompts per category: this model was built for "
                f"{len(self.config.backbone_templates)} (backbone_templates); average them or pass as many"
            )
        again = self.recompute
        visual = self.backbone(pixels, again)
        correlation = correlate(visual.tokens, text)  # b t p h w
        names = F.normalize(text.mean(1), dim=-1)  # t d
        found = (
            None
            if self.saliency is None
            else recomputed(again, self.saliency, visual.tokens, names)
        )
        kept = self._likeliest(correlation, found)  # b m, or None for all
        cost = self.cost(_pick(correlation, kept))  # b t c h w
        saliency = foreground = matched = None
        if found is not None and self.disentangle is not None:
            matched = found.matched
            saliency = rearrange(found.saliency, "b t (h w) -> b t h w", h=cost.shape[-2])
            cost, foreground = recomputed(
                again, self.disentangle, cost, _pick(saliency, kept), visual.tokens
            )
            foreground = _scatter(foreground, kept, len(text), 0.0)
        cost = self.refine(cost, visual.tokens, names[None] if kept is None else names[kept], again)
        image = self.backbone.normalise(pixels)
        logits = recomputed(again, self.decode, cost, visual.first, visual.second, image)
        return Prediction(
            _scatter(logits, kept, len(text), self.config.dropped_logit),
            saliency,
            matched,
            foreground,
        )

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return one L2-normalised embedding per row of token ids."""
        return recomputed(self.recompute, self.backbone.encode_text, ids)

    def parameter_groups(self) -> dict[str, list[str]]:
        """Return the names of what trains: `head`, and `clip` as `backbone_finetune` says."""
        names = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        clip = [name for name in names if name.startswith("backbone.")]
        return {"head": [name for name in names if name not in set(clip)], "clip": clip}

    def _likeliest(
        self, correlation: Float[Tensor, "b t p h w"], found: Saliency | None
    ) -> Int[Tensor, "b m"] | None:
        """Return the categories of each image that the head computes, in their own order. Baseline quirk 19."""
        if correlation.shape[1] <= self.config.max_categories:
            return None
        if self.config.max_categories_by == "itm" and found is not None:
            score = found.matched
        else:
            score = correlation.mean(2).flatten(2).amax(-1)
        return score.topk(self.config.max_categories).indices.sort().values


def _pick(
    values: Float[Tensor, "b t ..."], kept: Int[Tensor, "b m"] | None
) -> Float[Tensor, "b m ..."]:
    """Return the kept categories of each image."""
    if kept is None:
        return values
    return values.gather(
        1, kept.reshape(*kept.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
    )


def _scatter(
    values: Float[Tensor, "b m h w"], kept: Int[Tensor, "b m"] | None, count: int, fill: float
) -> Float[Tensor, "b t h w"]:
    """Undo `_pick`; dropped categories get `fill`."""
    if kept is None:
        return values
    whole = values.new_full((len(values), count, *values.shape[2:]), fill)
    return whole.scatter(1, kept[:, :, None, None].expand_as(values), values)
