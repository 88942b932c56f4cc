"""Compare this code, stage by stage, with tensors that the baseline's published code computed.

`python tests/golden/comparison.py FOLDER` prints a table of the stages of a golden set, or of every
golden set in the folder, and exits with 1 where a stage deviates. A golden set is a folder with:

- weights.safetensors: the network's weights under their official names;
- io.safetensors: the inputs (`in.image`, `in.tokens`) and the stages. Those of one forward pass
  begin with `fwd.` (`fwd_pool2.`: with the pooling of training), those of the sliding windows with
  `slide.`. A name that ends in `_sN` holds every N-th row and column, or every N-th token;
- meta.json: sizes, the labels that the stages hold, and the training loss.

A stage that this code does not know is a deviation, too, so that nothing passes unseen.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Num
from safetensors.torch import load_file
from stages import head_stages, image_stages, text_stages
from torch import Tensor
from torch.nn.functional import interpolate, pad

from disa.config import ModelConfig
from disa.inference.answer import Answer
from disa.inference.protocol import Protocol
from disa.inference.windows import cut
from disa.model.clip import PIXEL_MEAN
from disa.model.cost import correlate
from disa.model.disa import Disa
from disa.model.losses import IGNORED, segmentation_loss
from disa.weights.catseg import catseg_config, from_catseg

TOLERANCE = 1e-4  # absolute for tensors of order 1, else relative to their largest value
AGREEMENT = 0.999  # least share of pixels with the same best label
TIE = 1e-5  # labels closer than this at the best score may come in either order
DROPPED = -99.0  # logits below it belong to labels that the head did not compute
STAGES_WITH_LABELS = re.compile(r"correlation|logits|sem_seg|prob")
NOT_COMPARED = ("slide.margin_f16",)  # it only says where labels tie


@dataclass(frozen=True)
class Comparison:
    """One stage: our tensor beside the published one."""

    stage: str
    shape: tuple[int, ...]
    passed: bool
    difference: float = float("inf")  # the largest
    relative: float = float("inf")  # the same as a share of the largest published value
    agreement: float | None = None  # share of positions with the same best label, for label maps


class GoldenSet:
    """A folder of golden tensors, and this code's network with the same weights."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.weights = load_file(folder / "weights.safetensors")
        self.tensors = load_file(folder / "io.safetensors")
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        self.facts: dict[str, Any] = self.meta["config"]
        self.image: Num[Tensor, "3 y x"] = self.tensors["in.image"]
        self.ids = self.tensors["in.tokens"].long()  # t l
        self.out: tuple[int, int] = tuple(self.facts["out_hw"])

        self.config = golden_config(self.weights, self.facts)
        with torch.device("meta"):
            self.model = Disa(self.config)
        self.model.load_state_dict(from_catseg(self.weights, self.model.state_dict()), assign=True)
        self.model.backbone.restore_buffers()
        self.model.eval()

    def compare(self) -> Iterator[Comparison]:
        """Yield a comparison for every golden tensor, in the order of computation."""
        groups = {"fwd": self.forward, "fwd_pool2": self.forward_pooled, "slide": self.slide}
        for group, compute in groups.items():
            golden = {
                name: value
                for name, value in self.tensors.items()
                if name.startswith(f"{group}.") and name not in NOT_COMPARED
            }
            if golden:
                yield from self._compare(group, compute(), golden)

        if "train.loss" in self.meta:
            yield compare_values(
                "train.loss", self.loss().detach(), torch.tensor(self.meta["train.loss"])
            )

    def _compare(
        self, group: str, ours: Mapping[str, Tensor], golden: Mapping[str, Tensor]
    ) -> Iterator[Comparison]:
        """Yield a comparison for each golden tensor of a group; names that are not ours first."""
        labels = self.meta.get(f"{group}.class_ids", self.meta.get("fwd.class_ids"))
        order = {name: position for position, name in enumerate(ours)}
        for name in sorted(golden, key=lambda name: (order.get(split_name(name)[0], -1), name)):
            stem, step = split_name(name)
            if stem not in ours:
                yield failure(f"{name}: unknown to this code", golden[name])
            elif stem == "slide.argmax":
                yield self._compare_labels(name, ours[stem], golden[name])
            else:
                # the head keeps some labels in their own order; each view of a slide has its own
                keep = ours[f"{group}.agg.keep"]
                kept = keep.nonzero().flatten().tolist() if keep.dim() == 1 else []
                value = subsample(ours[stem], step, tokens=".vis." in stem)
                value = select_labels(value, golden[name], labels, kept)
                yield compare_values(name, value, golden[name])

    def _compare_labels(self, name: str, ours: Tensor, golden: Tensor) -> Comparison:
        margin = self.tensors.get("slide.margin_f16", torch.ones_like(golden))
        agreement = float((ours == golden)[margin.float() > TIE].double().mean())
        return Comparison(name, tuple(golden.shape), agreement >= AGREEMENT, 0.0, 0.0, agreement)

    def forward(self) -> dict[str, Tensor]:
        """Return the plain forward pass's stages under their published names, without `_sN`."""
        return self._stages("fwd.", pool=1)

    def forward_pooled(self) -> dict[str, Tensor]:
        """Return the same with the pooling of training in the attention among labels."""
        return self._stages("fwd_pool2.", pool=2)

    @torch.no_grad()
    def _stages(self, prefix: str, pool: int) -> dict[str, Tensor]:
        model = self.model
        pixels = self.plain_view()
        text = model.encode_text(self.ids)[:, None]  # t 1 d
        correlation = correlate(model.backbone(pixels).tokens, text)[0, :, 0]  # t h w
        best = correlation.amax((1, 2))

        stages = image_stages(model.backbone, pixels) | text_stages(model.backbone, self.ids)
        stages["agg.scores_max"] = best
        stages["agg.keep"] = self._kept(best)
        stages["agg.correlation"] = correlation
        stages |= head_stages(model, pixels, text, pool)
        stages["sem_seg"] = resize(stages["logits"].sigmoid(), self.out)
        return {prefix + name: value for name, value in stages.items()}

    def _kept(self, best: Float[Tensor, "*v t"]) -> Float[Tensor, "*v t"]:
        """Return 1 for the labels that the head computes, the likeliest of each view."""
        count = min(self.config.max_categories, best.shape[-1])
        return torch.zeros_like(best).scatter(-1, best.topk(count).indices, 1.0)

    @torch.no_grad()
    def slide(self) -> dict[str, Tensor]:
        """Return the stages of the sliding windows; the first axis of most is the view."""
        model = self.model
        height, width = self.facts.get("slide_crop", self.image.shape[1:])
        side = self.config.backbone_image_size
        layout = Protocol("cat-seg").layout(height, width, side, model.backbone.patch_size)
        views = torch.cat(list(cut(layout, self.image[:, :height, :width], layout.views)))

        # one view at a time, as the published code does
        text = model.encode_text(self.ids)[:, None]
        features = [
            image_stages(model.backbone, view[None])["vis.dense_features"] for view in views
        ]
        tokens = torch.cat([model.backbone(view[None]).tokens for view in views])
        logits = torch.cat([model(view[None], text).logits for view in views])
        best = correlate(tokens, text)[:, :, 0].amax((2, 3))  # v t

        # the golden set holds the maps of some labels only, but the best label of all
        shown = logits[:, self.meta.get("slide.class_ids", list(range(len(self.ids))))]
        labels = torch.arange(shown.shape[1])
        answer = Answer(layout, shown, labels, labels)
        every = torch.arange(logits.shape[1])
        stages = {
            "clip_input": model.backbone.normalise(views),
            "vis.dense_features": torch.stack(features),
            "agg.scores_max": best,
            "agg.keep": self._kept(best),
            "logits": shown,
            "prob640": join(answer.probabilities(shown.shape[1], layout.canvas)),
            "prob": join(answer.probabilities(shown.shape[1], self.out)),
            "argmax": Answer(layout, logits, every, every).best_label(self.out)[0],
        }
        return {f"slide.{name}": value for name, value in stages.items()}

    def loss(self) -> Float[Tensor, ""]:
        """Return the training loss on the image and its mirror image, with training's pooling."""
        labels = self.tensors["train.labels_12x12"].long()
        target = repeat(labels.where(labels != 255, IGNORED), "b h w -> b (h y) (w x)", y=32, x=32)
        pixels = self.plain_view().to(next(self.model.parameters()).dtype)
        text = self.model.encode_text(self.ids)[:, None]
        self.model.train()
        prediction = self.model(torch.cat([pixels, pixels.flip(-1)]), text)
        self.model.eval()
        return segmentation_loss(prediction, target, self.config)["total"]

    def plain_view(self) -> Float[Tensor, "1 3 H W"]:
        """Return the image padded to multiples of 32 and squashed to CLIP's size.

        The published code does so where it does not slide; baseline quirk 4.
        """
        multiple = self.facts.get("size_divisibility", 32)
        below, right = (-length % multiple for length in self.image.shape[1:])
        # the published code pads with zeros behind the normalisation, so with the mean before it
        mean = torch.tensor(PIXEL_MEAN)[:, None, None]
        pixels = self.image.float()
        if below or right:
            pixels = pad(pixels - mean, (0, right, 0, below)) + mean
        return resize(pixels, (self.config.backbone_image_size,) * 2)[None]


def golden_config(weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> ModelConfig:
    """Return a set's configuration: sizes from its tensors, from its facts what no shape tells."""
    config = catseg_config(weights)
    clip = facts["clip"]
    text_tower = config.backbone_clip["text_config"] | {"num_attention_heads": clip["theads"]}
    vision_tower = config.backbone_clip["vision_config"] | {"num_attention_heads": clip["vheads"]}
    first, second = facts["guidance_blocks"]
    return config.replace(
        backbone_clip=config.backbone_clip
        | {"text_config": text_tower, "vision_config": vision_tower},
        backbone_image_size=facts["clip_resolution"][0],
        backbone_guidance_blocks=(first, second),
        refine_heads=facts["head"]["nheads"],
        refine_padding=facts["pad_len"],
        refine_window=facts.get("window", 12),
        max_categories=facts["pad_len"],
    )


def split_name(name: str) -> tuple[str, int]:
    """Return a golden tensor's stage and the N of its `_sN`, or 1."""
    stem, mark, step = name.rpartition("_s")
    return (stem, int(step)) if mark and step.isdecimal() else (name, 1)


def resize(maps: Float[Tensor, "c h w"], size: tuple[int, int]) -> Float[Tensor, "c y x"]:
    """Return the maps at another size, bilinearly."""
    if maps.shape[1:] == size:
        return maps
    return interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def join(chunks: Iterator[tuple[Any, Tensor]]) -> Tensor:
    """Return label maps that come in chunks as one tensor."""
    return torch.cat([maps for _, maps in chunks])


def subsample(ours: Tensor, step: int, tokens: bool) -> Tensor:
    """Return every `step`-th row and column, or every `step`-th token."""
    if step == 1:
        return ours
    return ours[..., ::step, :] if tokens else ours[..., ::step, ::step]


def select_labels(
    ours: Tensor, golden: Tensor, labels: Sequence[int] | None, kept: Sequence[int]
) -> Tensor:
    """Return the part of our tensor that a golden one of some labels holds.

    `labels` are the original ids of the golden tensor's first axis. Our first axis has all labels,
    or the `kept` ones in their own order. Any other tensor comes back as it is.
    """
    if labels is None or ours.shape == golden.shape or golden.shape[:1] != (len(labels),):
        return ours
    if len(ours) == len(kept):
        # an original id is no position among the kept ones
        positions = [kept.index(label) for label in labels if label in kept]
        return ours[positions]
    return ours[list(labels)] if len(ours) > max(labels) else ours


def compare_values(stage: str, ours: Tensor, golden: Tensor) -> Comparison:
    """Compare a stage's numbers, and the best labels where it has labels."""
    if ours.shape != golden.shape:
        return failure(f"{stage}: has shape {tuple(ours.shape)} here", golden)
    difference = float((ours - golden).abs().max())
    # a dropped label's logit of -100 would stretch the tolerance
    size = float(golden[golden > DROPPED].abs().max())
    agreement = share_of_equal_labels(ours, golden) if STAGES_WITH_LABELS.search(stage) else None
    passed = difference <= TOLERANCE * max(1.0, size)
    passed = passed and (agreement is None or agreement >= AGREEMENT)
    relative = difference / size if size else 0.0
    return Comparison(stage, tuple(golden.shape), passed, difference, relative, agreement)


def failure(stage: str, golden: Tensor) -> Comparison:
    """Return the comparison of a golden tensor that has no counterpart."""
    return Comparison(stage, tuple(golden.shape), passed=False)


def share_of_equal_labels(
    ours: Float[Tensor, "*v t h w"], golden: Float[Tensor, "*v t h w"]
) -> float | None:
    """Return the share of positions with the same best label, leaving out those that tie."""
    if golden.shape[-3] < 2:
        return None
    first, second = golden.topk(2, dim=-3).values.unbind(-3)
    clear = first - second > TIE
    return float((ours.argmax(-3) == golden.argmax(-3))[clear].double().mean())


def main(folder: Path) -> int:
    """Print the table of each golden set, and return 1 if a stage deviates or there is no set."""
    sets = [path.parent for path in sorted(folder.rglob("meta.json"))]
    if not sets:
        print(f"{folder}: holds no golden set (meta.json, io.safetensors, weights.safetensors)")
        return 1
    row = "{:44} {:20} {:>10} {:>10} {:>12}  {}".format
    deviations = []
    for place in sets:
        print(f"\n{place}")
        print(row("stage", "shape", "difference", "relative", "equal labels", ""))
        for one in GoldenSet(place).compare():
            shape = " x ".join(map(str, one.shape))
            labels = "" if one.agreement is None else f"{one.agreement:.3%}"
            verdict = "ok" if one.passed else "DEVIATES"
            numbers = f"{one.difference:.1e}", f"{one.relative:.1e}"
            print(row(one.stage, shape, *numbers, labels, verdict))
            if not one.passed:
                deviations.append(f"{place}: {one.stage}")

    print("\n" + "\n".join(f"deviates: {stage}" for stage in deviations or ["nothing"]))
    print(
        f"allowed: {TOLERANCE:g} of tensors of order 1, and of larger ones relative to their "
        f"largest value; the same best label at {AGREEMENT:.1%} of the pixels"
    )
    return min(len(deviations), 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
