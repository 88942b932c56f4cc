"""The whole network, one step per box of the paper's figure."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.model.cost import Cost, best_token, correlate
from disa.model.decode import Decode, Guides
from disa.model.disentangle import Disentangle
from disa.model.encoders import build_backbone
from disa.model.few import a_few_at_a_time, rows_that_fit
from disa.model.refine import Refine
from disa.model.saliency import SaliencyModule, TokenHeads
from disa.model.things import Things


class Look(NamedTuple):
    """What the network sees in images, whatever the labels: computed once, asked often."""

    tokens: Float[Tensor, "b d h w"]  # CLIP's dense features
    things: Float[Tensor, "b h w"] | None  # logit per token: is a thing here?
    heads: tuple[TokenHeads, ...] | None  # of the saliency, layer by layer
    sides: Float[Tensor, "b n g"] | None  # guides the branches of the SDM
    alike: Float[Tensor, "b h w g"] | None  # guides the pixel-wise refinement
    edges: Guides  # guide the decoder


class Prediction(NamedTuple):
    """What the network says of each image and label.

    Saliency, match and split are None without the SDM; `things` is None in a model without them.
    The head computes logits and split for `m` labels, which may be fewer than all `t`.
    """

    logits: Float[Tensor, "b m h4 w4"]  # 4h x 4w, or the pixels H x W
    saliency: Float[Tensor, "b t h w"] | None  # Grad-CAM saliency, at least 0, not normalised
    matched: Float[Tensor, "b t"] | None  # logit: does the image show the label?
    foreground: Float[Tensor, "b m h w"] | None  # the split: 1 foreground, 0 background
    things: Float[Tensor, "b h4 w4"] | None = None  # logit: is a thing here, whatever the labels?
    # Which labels the logits and the split are of, if they are not of all.
    chosen: Int[Tensor, "b m"] | None = None

    def whole(self, labels: int, fill: float) -> "Prediction":
        """Return it for all labels: those that were not chosen get `fill` and no foreground."""
        if self.chosen is None:
            return self
        foreground = self.foreground
        if foreground is not None:
            foreground = _scatter(foreground, self.chosen, labels, fill=0.0)
        logits = _scatter(self.logits, self.chosen, labels, fill=fill)
        return self._replace(logits=logits, foreground=foreground, chosen=None)

    def float(self) -> "Prediction":
        """Return it in 32 bit, whatever it was computed in."""
        return Prediction._make(None if value is None else value.float() for value in self)


class Disa(nn.Module):
    """Saliency-aware open-vocabulary segmentation: a pure function of pixels and text embeddings.

    It knows no vocabulary, file, device or window. Cosines of tokens and prompts become a cost
    volume, which is refined and enlarged:

        cost    = embed(cos(token, prompt))                       Cost
        cost   += project(aggregate(foreground, background))      SaliencyModule, Disentangle (SDM)
        cost    = refine by pixels, by labels, by channels        Refine (HRM)
        logits  = two guided upsampling steps                     Decode

    With `disentangle`, `refine_category_reweight` and `refine_semantic` off it is the baseline,
    parameter for parameter.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config)
        d = self.backbone.embedding_width
        self.cost = Cost(config)
        self.saliency = SaliencyModule(config, d) if config.disentangle else None
        self.disentangle = Disentangle(config, d) if config.disentangle else None
        self.refine = Refine(config, d)
        self.things = Things(d, self.backbone.attention_maps) if config.things else None
        self.decode = Decode(config, self.backbone.vision_width)
        needs_things = config.decode_foreground or config.saliency_source == "things"
        if needs_things and not (config.things and config.disentangle):
            raise DisaError(
                "decode_foreground and saliency_source=things need the SDM and things: set "
                "disentangle=true and things=true"
            )

    @property
    def patch_size(self) -> int:
        """Pixels per side of a patch."""
        return self.backbone.patch_size

    def forward(self, pixels: Float[Tensor, "b 3 H W"], text: Float[Tensor, "t p d"]) -> Prediction:
        """Return logits, and what the SDM finds, for RGB in 0..255 and L2-normalised prompts.

        Labels that the head did not compute get `dropped_logit` and no foreground. Raises as `look`
        and `answer` do.
        """
        found = self.answer(self.look(pixels), text)
        return found.whole(text.shape[0], self.config.dropped_logit)

    def look(self, pixels: Float[Tensor, "b 3 H W"]) -> Look:
        """Return what no label changes, which is most of the work for a few labels.

        Raises `DisaError` if a side is not a multiple of the patch.
        """
        visual = self.backbone(pixels)
        tokens = visual.tokens
        things = None if self.things is None else self.things(visual)  # b h w

        # Two tapped maps of CLIP, and perhaps the image itself, show the decoder where edges are.
        image = self.backbone.normalise(pixels)
        return Look(
            tokens,
            things,
            heads=None if self.saliency is None else self.saliency.guide(tokens),
            sides=None if self.disentangle is None else self.disentangle.guide(tokens),
            alike=self.refine.guide(tokens),
            edges=self.decode.guide(visual.first, visual.second, image, things),
        )

    def answer(self, look: Look, text: Float[Tensor, "t p d"]) -> Prediction:
        """Return what the images say to these labels.

        Beyond `max_categories` labels the head computes only the likeliest of each image, `chosen`;
        saliency and match are of all labels. Raises `DisaError` if the number of prompts is not the
        one that the model was built for.
        """
        if text.shape[1] != len(self.config.backbone_templates):
            raise DisaError(
                f"text with {text.shape[1]} prompts per label: this model was built for "
                f"{len(self.config.backbone_templates)} (backbone_templates); average them or pass "
                "as many"
            )

        # m labels of each image go through the head: all of them, or the likeliest. Every step
        # below takes memory for each label and image.
        chosen, cosines = self._chosen(look.tokens, text)  # b m p h w
        mean_text = F.normalize(text.mean(1), dim=-1)  # t d
        channels = self.config.cost_channels * cosines[0, 0, 0].numel()
        # Channels lie last in memory, whatever the order of the axes: every part is faster so.
        cost = a_few_at_a_time(
            lambda part: rearrange(self.cost(part), "b m c h w -> b m h w c").contiguous(),
            cosines,
            widest=channels,
        )
        cost = rearrange(cost, "b m h w c -> b m c h w")
        del cosines  # they may be of all labels, and leave their memory to the saliency
        text_guidance = mean_text[None] if chosen is None else mean_text[chosen]  # b m d

        # SDM: the saliency of all labels, which is cheap, then foreground and background of the m.
        saliency = None
        matched = None
        foreground = None
        own_saliency = None  # of the m
        if self.saliency is not None and self.disentangle is not None:
            assert look.heads is not None
            assert look.sides is not None
            evidence, matched = self._evidence(self.saliency, look.heads, mean_text)
            saliency = rearrange(evidence, "b t (h w) -> b t h w", h=cost.shape[-2])
            own_saliency = _gather(saliency, chosen)  # b m h w
            splitting = own_saliency
            if self.config.saliency_source == "things":
                assert look.things is not None
                splitting = look.things.detach().sigmoid()[:, None].expand_as(own_saliency)
            cost, foreground = self.disentangle(cost, splitting, look.sides)

        # HRM: pixels, labels and channels look at each other. Then the decoder.
        cost = self.refine(cost, look.alike, text_guidance)
        logits = self.decode(cost, look.edges, own_saliency)  # b m 4h 4w
        return Prediction(logits, saliency, matched, foreground, look.edges.things, chosen)

    def presence(self, look: Look, text: Float[Tensor, "t p d"]) -> Float[Tensor, "b t"]:
        """Return how much each label resembles the token that resembles it most: a cosine.

        It takes one matrix product, so it can choose among thousands of labels (decision D110).
        """
        step = rows_that_fit(text, text.shape[1] * look.tokens[:, 0].numel())
        parts = text.split(len(text) if step is None else step)
        return torch.cat([best_token(correlate(look.tokens, part)) for part in parts], 1)

    def encode_text(self, ids: Int[Tensor, "m l"]) -> Float[Tensor, "m d"]:
        """Return one L2-normalised embedding per row of token ids."""
        return self.backbone.encode_text(ids)

    def parameter_groups(self) -> dict[str, list[str]]:
        """Return the names of what trains: `head`, and `clip` as `backbone_finetune` says."""
        names = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        clip = [name for name in names if name.startswith("backbone.")]
        head = [name for name in names if not name.startswith("backbone.")]
        return {"head": head, "clip": clip}

    def _evidence(
        self, saliency: SaliencyModule, heads: tuple[TokenHeads, ...], text: Float[Tensor, "t d"]
    ) -> tuple[Float[Tensor, "b t n"], Float[Tensor, "b t"]]:
        """Return the saliency and the matched logit of every label, a few labels at a time."""
        images, tokens, count, _ = heads[0].key.shape

        matched: list[Tensor] = []

        def evidence(part: Tensor) -> Tensor:
            found = saliency(heads, part[0])  # its attention takes most of the memory, and goes
            matched.append(found.matched)
            return found.saliency

        joined = a_few_at_a_time(evidence, text[None], widest=images * tokens * count)
        return joined, torch.cat(matched, 1)

    def _chosen(
        self, tokens: Float[Tensor, "b d h w"], text: Float[Tensor, "t p d"]
    ) -> tuple[Int[Tensor, "b m"] | None, Float[Tensor, "b m p h w"]]:
        """Return the labels of each image that the head computes, and their cosines with tokens.

        The labels are in their own order; None: all.
        """
        # Every token and every prompt live in CLIP's common space: compare them all.
        correlation = correlate(tokens, text)
        # In an export the number of labels stays free, so they are always chosen: perhaps all.
        if not torch.compiler.is_exporting() and text.shape[0] <= self.config.max_categories:
            return None, correlation
        most = torch.sym_min(text.shape[0], self.config.max_categories)
        chosen = best_token(correlation).topk(most).indices.sort().values
        return chosen, _gather(correlation, chosen)


def _gather(
    values: Float[Tensor, "b t ..."], chosen: Int[Tensor, "b m"] | None
) -> Float[Tensor, "b m ..."]:
    """Return the values of each image's chosen labels."""
    if chosen is None:
        return values

    # `gather` wants an index for every number: each label's, repeated over the trailing axes.
    trailing = values.shape[2:]
    index = chosen.reshape(*chosen.shape, *[1] * len(trailing)).expand(-1, -1, *trailing)
    return values.gather(1, index)


def _scatter(
    values: Float[Tensor, "b m h w"], chosen: Int[Tensor, "b m"], labels: int, fill: float
) -> Float[Tensor, "b t h w"]:
    """Undo `_gather`; labels that were not chosen get `fill`."""
    whole = values.new_full((values.shape[0], labels, *values.shape[2:]), fill)
    return whole.scatter(1, chosen[:, :, None, None].expand_as(values), values)
