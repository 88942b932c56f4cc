"""Find out where outlines are lost: put the truth, or nothing, in the place of one part.

    python experiments/outlines/oracles.py --model mini --scenes 200

A row says what is left of mIoU and boundary IoU if everything else were perfect (truth on a grid),
if one kind of mistake were gone (true names, true outlines), or if the decoder saw less. It takes
three minutes on one core.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

import disa
from disa.data.drawn import DrawnDataset
from disa.evaluation.drawn_world import GROUPS
from disa.evaluation.score import Scores
from disa.model.disa import Disa, Look
from disa.picturebook import NOUNS, group

GRIDS = (12, 24, 48)  # tokens, and the two steps of the decoder


def main() -> None:
    """Print a table of the oracles."""
    parser = argparse.ArgumentParser(description="Find out where outlines are lost.")
    parser.add_argument("--model", default="mini", help="a model whose decoder goes to the pixels")
    parser.add_argument("--scenes", type=int, default=200, help="test scenes")
    options = parser.parse_args()

    segmenter = disa.load(options.model, "cpu")
    network = segmenter.model
    if not isinstance(network, Disa) or network.decode.enlarge is None:
        raise SystemExit(f"{options.model}: needs a model with decode_enlarge, such as mini")
    text = segmenter.text(NOUNS)
    dataset = DrawnDataset("val", options.scenes, network.config.backbone_image_size)

    scores: dict[str, Scores] = {}
    for index, name in enumerate(dataset.ids):
        scene = dataset.scene(index)
        pixels = torch.from_numpy(scene.image.transpose(2, 0, 1).copy())[None].float()
        truth = torch.from_numpy(scene.labels).long()
        with torch.inference_mode():
            for oracle, labels in answers(network, pixels, text, truth):
                counted = scores.setdefault(oracle, Scores(len(NOUNS), dataset.ignored))
                counted.add(name, labels, truth)
        print(f"\r{index + 1} of {len(dataset.ids)} scenes", end="", flush=True)

    columns = ("mIoU", "boundary IoU", *(f"of {name.replace('_', ' ')}" for name in GROUPS))
    print("\n| what is true, or missing |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for oracle, counted in scores.items():
        outlines = counted.boundary.iou
        means = [counted.confusion.miou, float(outlines.nanmean())]
        for name in GROUPS:
            own = torch.tensor([group(noun) == name for noun in NOUNS])
            means.append(float(outlines[own].nanmean()))
        print(f"| {oracle} |", " | ".join(f"{100 * mean:.1f}" for mean in means), "|")


def answers(
    network: Disa,
    pixels: Float[Tensor, "1 3 H W"],
    text: Float[Tensor, "t p d"],
    truth: Int[Tensor, "H W"],
) -> Iterator[tuple[str, Int[Tensor, "H W"]]]:
    """Yield the name and the labels of each oracle for one scene."""
    enlarge = network.decode.enlarge
    assert enlarge is not None
    look = network.look(pixels)
    mix = look.edges.mix
    assert mix is not None

    # The truth at the size of a grid: the share of every label in each cell.
    true_maps = rearrange(F.one_hot(truth, len(NOUNS)), "h w t -> 1 t h w").float()
    for grid in GRIDS:
        shares = F.adaptive_avg_pool2d(true_maps, grid)
        yield f"truth on {grid} x {grid}, bilinear", likeliest(_bilinear(shares, truth))
    yield "truth on 48 x 48, the learned enlargement", likeliest(enlarge(shares, mix))

    coarse, fine = logits(network, look, text)
    labels = likeliest(fine)
    yield "the model", labels
    yield "its logits, bilinear", likeliest(_bilinear(coarse, truth))

    # Names: only labels that the scene holds compete. Outlines: a true region gets the label that
    # most of its pixels have.
    absent = torch.ones(len(NOUNS), dtype=torch.bool)
    absent[truth.unique()] = False
    yield "only present labels", likeliest(fine.masked_fill(absent[:, None, None], -torch.inf))
    named = labels.clone()
    for label in truth.unique():
        region = truth == label
        named[region] = labels[region].mode().values
    yield "true outlines, the model's names", named

    for part in ("CLIP's maps", "the image's details"):
        with unseen(network, part):
            _, shown = logits(network, network.look(pixels), text)
        yield f"decoder steps without {part}", likeliest(shown)


@contextmanager
def unseen(network: Disa, part: str) -> Iterator[None]:
    """Show the decoder's steps the mean of each of the part's maps, and nothing of where it is."""
    steps = (network.decode.step1, network.decode.step2)
    for step, channels in zip(steps, network.config.decode_guidance_channels, strict=True):
        step.guide = partial(_guide_flat, step.guide, channels, part)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for step in steps:
            del step.guide  # the class's own shows again


def _guide_flat(
    guide: Callable[[Tensor], Tensor], channels: int, part: str, guidance: Float[Tensor, "1 g h w"]
) -> Tensor:
    """Guide with CLIP's maps, the first channels, or with the image's details made flat."""
    maps = [guidance[:, :channels], guidance[:, channels:]]
    index = 0 if part == "CLIP's maps" else 1
    maps[index] = maps[index].mean((-2, -1), keepdim=True).expand_as(maps[index])
    return guide(torch.cat(maps, 1))


def logits(
    network: Disa, look: Look, text: Float[Tensor, "t p d"]
) -> tuple[Float[Tensor, "1 t h4 w4"], Float[Tensor, "1 t H W"]]:
    """Return the decoder's logits before and after their enlargement to the pixels."""
    parts: list[Tensor] = []  # a few labels each
    hook = network.decode.head.register_forward_hook(lambda *call: parts.append(call[-1]))
    try:
        fine = network.answer(look, text).logits
    finally:
        hook.remove()
    return rearrange(torch.cat(parts), "t 1 h w -> 1 t h w"), fine


def likeliest(maps: Float[Tensor, "1 t H W"]) -> Int[Tensor, "H W"]:
    """Return the label with the largest value at each pixel."""
    return maps[0].argmax(0)


def _bilinear(maps: Float[Tensor, "1 t h w"], truth: Int[Tensor, "H W"]) -> Tensor:
    return F.interpolate(maps, truth.shape, mode="bilinear", align_corners=False)


if __name__ == "__main__":
    main()
