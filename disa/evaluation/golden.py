"""This code against tensors that the baseline's published code computed, stage by stage.

`folder with weights.safetensors, io.safetensors, meta.json -> a comparison per stage`. The tensors are taken at every
N-th row and column where a name ends in `_sN`; every name that begins with `fwd`, `slide` or `train.loss` is compared,
and one that this file does not know is a failure, not a gap.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import repeat
from jaxtyping import Float, Num
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate, pad

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.evaluation.stages import head_stages, image_stages, text_stages
from disa.inference.answers import Answer
from disa.inference.protocol import Protocol
from disa.inference.windows import cut
from disa.model.backbone import PIXEL_MEAN
from disa.model.cost import correlate
from disa.model.disa import Disa
from disa.model.losses import IGNORED, segmentation_loss
from disa.weights.catseg import catseg_config, from_catseg

TOLERANCE = 1e-4  # absolute, of tensors of order 1; of larger ones relative to their largest value
AGREEMENT = 0.999  # least share of pixels with the same best label
TIE = 1e-5  # labels closer than this at the best score may come in either order
FILES = ("weights.safetensors", "io.safetensors", "meta.json")
_NAME = re.compile(r"(?P<stem>.*?)(?:_s(?P<step>\d+))?")
_LABELLED = re.compile(
    r"correlation|logits|sem_seg|prob"
)  # stages with categories before rows and columns
DROPPED = -99.0  # below it a category was left out
NOT_COMPARED = ("slide.margin_f16",)  # says where labels tie


class Comparison(NamedTuple):
    """One stage: our tensor against the published one."""

    stage: str
    shape: tuple[int, ...]
    absolute: float  # largest difference
    relative: float  # the same as a share of the largest golden value
    agreement: (
        float | None
    )  # share of positions with the same best label, for maps with a label axis
    passed: bool


class GoldenSet:
    """A folder of golden tensors, with the model that they describe. Raises `DisaError` if it is none."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise DisaError(f"{folder}: is no golden set, it lacks {', '.join(missing)}")
        try:
            self.official, self.tensors = (load_file(folder / name) for name in FILES[:2])
            self.meta: dict[str, Any] = json.loads((folder / FILES[2]).read_text())
            self.facts: dict[str, Any] = self.meta["config"]
            self.config = golden_config(self.official, self.facts)
            self.image: Num[Tensor, "3 y x"] = self.tensors["in.image"]
            self.ids = self.tensors["in.tokens"].long()
            self.out: tuple[int, int] = tuple(self.facts["out_hw"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DisaError(
                f"{folder}: damaged golden set ({type(error).__name__}: {error}); copy it again"
            ) from None
        with torch.device("meta"):
            self.model = Disa(self.config)
        self.model.load_state_dict(from_catseg(self.official, self.model.state_dict()), assign=True)
        self.model.backbone.restore_buffers()
        self.model.eval()

    def compare(self) -> Iterator[Comparison]:
        """Yield a comparison for every golden tensor of a forward pass and of training, in the order of computation."""
        groups = (
            ("fwd.", self.forward),
            ("fwd_pool2.", self.forward_pooled),
            ("slide.", self.slide),
        )
        for prefix, compute in groups:
            wanted = {
                name: value for name, value in self.tensors.items() if name.startswith(prefix)
            }
            if wanted:
                yield from self._compare(
                    compute(), wanted, self.meta.get(f"{prefix.split('.')[0]}.class_ids")
                )
        if "train.loss" in self.meta:
            yield from self._compare(
                {"train.loss": self.loss()}, {"train.loss": torch.tensor(self.meta["train.loss"])}
            )

    def _compare(
        self,
        ours: Mapping[str, Tensor],
        golden: Mapping[str, Tensor],
        ids: Sequence[int] | None = None,
    ) -> Iterator[Comparison]:
        order = {name: position for position, name in enumerate(ours)}
        parsed = {name: _NAME.fullmatch(name) for name in golden if name not in NOT_COMPARED}
        stems = {name: found["stem"] for name, found in parsed.items() if found}
        for name in sorted(stems, key=lambda name: (order.get(stems[name], -1), name)):
            step, value = int(parsed[name]["step"] or 1), ours.get(stems[name])  # type: ignore[index]
            if value is None:
                yield _failed(f"{name}: unknown to this code", golden[name])
            elif stems[name] == "slide.argmax":
                yield self._compare_labels(name, value, golden[name])
            else:
                yield _comparison(
                    name, _taken(stems[name], value, step, golden[name], ids), golden[name]
                )

    def _compare_labels(self, name: str, ours: Tensor, golden: Tensor) -> Comparison:
        margin = self.tensors.get("slide.margin_f16", torch.ones_like(golden))
        agreement = float((ours == golden)[margin.float() > TIE].double().mean())
        return Comparison(name, tuple(golden.shape), 0.0, 0.0, agreement, agreement >= AGREEMENT)

    def forward(self) -> dict[str, Tensor]:
        """Return the stages of the plain forward pass under the published names, without `_sN`."""
        return self._stages("fwd.", pool=1)

    def forward_pooled(self) -> dict[str, Tensor]:
        """Return the same with the training setting's pooling of the category-wise attention."""
        return self._stages("fwd_pool2.", pool=2)

    @torch.no_grad()
    def _stages(self, group: str, pool: int) -> dict[str, Tensor]:
        model, pixels = self.model, self.plain_view()
        text = model.encode_text(self.ids)[:, None]
        correlation = correlate(model.backbone(pixels).tokens, text)[0, :, 0]
        best = correlation.amax((1, 2))
        seen = image_stages(model.backbone, pixels) | text_stages(model.backbone, self.ids)
        seen |= {
            "agg.scores_max": best,
            "agg.keep": self._kept(best),
            "agg.correlation": correlation,
        }
        head = head_stages(model, pixels, text, pool)
        logits = head["logits"]
        seen |= head | {"sem_seg": _resized(logits.sigmoid(), self.out)}
        return {group + name: value for name, value in seen.items()}

    def _kept(self, best: Float[Tensor, "*v t"]) -> Float[Tensor, "*v t"]:
        count = min(self.config.max_categories, best.shape[-1])
        return torch.zeros_like(best).scatter(-1, best.topk(count).indices, 1.0)

    @torch.no_grad()
    def slide(self) -> dict[str, Tensor]:
        """Return the stages of the published sliding-window protocol; the first axis of most is the view."""
        model = self.model
        height, width = self.facts.get(
            "slide_crop", self.image.shape[1:]
        )  # the whole image, unless said
        layout = Protocol("cat-seg").layout(
            height, width, self.config.backbone_image_size, model.backbone.patch_size
        )
        views = torch.cat(list(cut(layout, self.image[:, :height, :width], layout.views)))
        text = model.encode_text(self.ids)[:, None]
        tokens = torch.cat([model.backbone(view[None]).tokens for view in views])
        logits = torch.cat([model(view[None], text).logits for view in views])
        best = correlate(tokens, text)[:, :, 0].amax((2, 3))
        shown = logits[:, self.meta.get("slide.class_ids", list(range(len(self.ids))))]
        some = Answer(layout, shown, None, None)
        stages = {
            "clip_input": model.backbone.normalise(views),
            "vis.dense_features": torch.stack(
                [image_stages(model.backbone, v[None])["vis.dense_features"] for v in views]
            ),
            "agg.scores_max": best,
            "agg.keep": self._kept(best),
            "logits": shown,
            "prob640": torch.cat(
                [maps for _, maps in some.probabilities(shown.shape[1], layout.canvas)]
            ),
            "prob": torch.cat([maps for _, maps in some.probabilities(shown.shape[1], self.out)]),
            "argmax": Answer(layout, logits, None, None).best_label(self.out)[0],
        }
        return {f"slide.{name}": value for name, value in stages.items()}

    @torch.no_grad()
    def loss(self) -> Float[Tensor, ""]:
        """Return the training loss on the image and its mirror image, with the training setting's pooling."""
        labels = self.tensors["train.labels_12x12"].long()
        target = repeat(labels.where(labels != 255, IGNORED), "b h w -> b (h y) (w x)", y=32, x=32)
        pixels = self.plain_view()
        self.model.train()
        text = self.model.encode_text(self.ids)[:, None]
        prediction = self.model(torch.cat([pixels, pixels.flip(-1)]), text)
        self.model.eval()
        return segmentation_loss(prediction, target, self.config)["total"]

    def plain_view(self) -> Float[Tensor, "1 3 H W"]:
        """Return the golden image padded to multiples of 32 and squashed to CLIP's size. Baseline quirk 4."""
        multiple = self.facts.get("size_divisibility", 32)
        below, right = (-length % multiple for length in self.image.shape[1:])
        mean = torch.tensor(PIXEL_MEAN)[
            :, None, None
        ]  # what a zero behind the normalisation is before it
        padded = (
            pad(self.image.float() - mean, (0, right, 0, below)) + mean
            if below or right
            else self.image.float()
        )
        return _resized(padded, (self.config.backbone_image_size,) * 2)[None]


def golden_config(official: Mapping[str, Tensor], facts: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration of a golden set: sizes from its tensors, what no shape tells from its facts."""
    config = catseg_config(official)
    clip, head = facts["clip"], facts["head"]
    towers = {
        "text_config": config.backbone_clip["text_config"]
        | {"num_attention_heads": clip["theads"]},
        "vision_config": config.backbone_clip["vision_config"]
        | {"num_attention_heads": clip["vheads"]},
    }
    first, second = facts["guidance_blocks"]
    return config.replace(
        backbone_clip=config.backbone_clip | towers,
        backbone_image_size=facts["clip_resolution"][0],
        backbone_guidance_blocks=(first, second),
        refine_heads=head["nheads"],
        refine_padding=facts["pad_len"],
        refine_window=facts.get("window", 12),
        max_categories=facts["pad_len"],
    )


def _resized(maps: Float[Tensor, "c h w"], size: tuple[int, int]) -> Float[Tensor, "c y x"]:
    if maps.shape[1:] == size:
        return maps
    return interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def _taken(
    stem: str, ours: Tensor, step: int, golden: Tensor, ids: Sequence[int] | None
) -> Tensor | None:
    """Return what the golden tensor holds of ours: every `step`-th token or row and column, and some categories."""
    if step > 1:
        ours = ours[..., ::step, :] if ".vis." in stem else ours[..., ::step, ::step]
    if ours.shape != golden.shape and ids is not None and golden.shape[0] == len(ids) < len(ours):
        ours = ours[ids]
    return ours if ours.shape == golden.shape else None


def _comparison(stage: str, ours: Tensor | None, golden: Tensor) -> Comparison:
    if ours is None:
        return _failed(f"{stage}: of another shape here", golden)
    # what was dropped has a logit of -100, which would stretch the tolerance
    absolute, size = float((ours - golden).abs().max()), float(golden[golden > DROPPED].abs().max())
    agreement = _agreement(ours, golden) if _LABELLED.search(stage) else None
    passed = absolute <= TOLERANCE * max(1.0, size) and (
        agreement is None or agreement >= AGREEMENT
    )
    return Comparison(
        stage, tuple(golden.shape), absolute, absolute / size if size else 0.0, agreement, passed
    )


def _failed(stage: str, golden: Tensor) -> Comparison:
    return Comparison(stage, tuple(golden.shape), float("inf"), float("inf"), None, False)


def _agreement(ours: Float[Tensor, "*v t h w"], golden: Float[Tensor, "*v t h w"]) -> float | None:
    """Return the share of positions at which the same label is best, without those where two labels tie."""
    if golden.shape[-3] < 2:
        return None
    first, second = golden.topk(2, dim=-3).values.unbind(-3)
    clear = first - second > TIE
    return float((ours.argmax(-3) == golden.argmax(-3))[clear].double().mean())
