"""Gradients and names of CAT-Seg's published code; its stages are in tests/evaluation/test_golden_set.py."""

import os
from pathlib import Path

import pytest
import torch
from einops import repeat

from disa.errors import DisaError
from disa.evaluation.golden import GoldenSet
from disa.model.disa import Disa
from disa.model.losses import IGNORED, segmentation_loss
from disa.weights.catseg import from_catseg

SHARED = Path(os.environ.get("DISA_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
pytestmark = pytest.mark.skipif(
    not (SHARED / "golden").is_dir(), reason="golden tensors not at hand (DISA_SHARED)"
)


@pytest.fixture(scope="module", params=["a", "c"])
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    return GoldenSet(SHARED / "golden" / request.param)


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Compare with a tolerance relative to the largest value where that exceeds 1."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * max(1.0, theirs.abs().max().item())


def test_training_loss_and_gradients(golden: GoldenSet) -> None:
    """In 64 bit, so that the only rounding is that of the golden gradients: up to 1.4e-4 of their largest value."""
    model, io = golden.model.double(), golden.tensors
    pixels = torch.cat([golden.plain_view(), golden.plain_view().flip(-1)]).double()
    target = repeat(io["train.labels_12x12"].long(), "b h w -> b (h y) (w x)", y=32, x=32)
    target = target.masked_fill(target == 255, IGNORED)
    for level in model.refine.levels:
        level.category.pool_test = 1
    model.train().zero_grad()
    text = model.encode_text(golden.ids)[:, None]
    loss = segmentation_loss(model(pixels, text), target, model.config)["total"]
    loss.backward()
    assert loss.item() == pytest.approx(golden.meta["train.loss"], rel=1e-5)
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    everything = {name: torch.zeros_like(value) for name, value in golden.official.items()}
    names = {}
    for name in (key for key in io if key.startswith("train.grad.")):
        official = name.removeprefix("train.grad.")
        ours = from_catseg(everything | {official: io[name]}, model.state_dict())
        names[official] = next(key for key, value in ours.items() if value.abs().sum() > 0)
        theirs = ours[names[official]]
        close(gradients[names[official]] / theirs.abs().max(), theirs / theirs.abs().max(), 3e-4)
    assert len(names) >= 6
    model.float().eval()


def test_conversion_refuses_what_does_not_fit(golden: GoldenSet) -> None:
    expected = golden.model.state_dict()
    name = "sem_seg_head.predictor.transformer.conv1.weight"
    without = {key: value for key, value in golden.official.items() if key != name}
    with pytest.raises(DisaError, match=r"missing cost\.embed\.weight"):
        from_catseg(without, expected)
    with pytest.raises(DisaError, match="left over surplus"):
        from_catseg({**golden.official, "surplus": torch.zeros(1)}, expected)
    with pytest.raises(DisaError, match=r"transformer\.conv1\.weight has shape"):
        from_catseg({**without, name: golden.official[name][..., :5]}, expected)


@pytest.mark.parametrize("size", ["B", "L"])
def test_names_and_shapes_of_the_published_models(size: str) -> None:
    from disa.recipes import RECIPES

    with torch.device("meta"):
        model = Disa(RECIPES[{"B": "vit-b-16-baseline", "L": "vit-l-14-baseline"}[size]]())
        official, trained = {}, 0
        for line in (SHARED / "golden" / f"keys_{size}.txt").read_text().splitlines():
            name, shape, *mark = line.split("\t")
            official[name] = torch.empty(
                [int(number) for number in shape.strip("(),").split(",") if number.strip()]
            )
            trained += official[name].numel() * (mark == ["trainable"])
        ours = from_catseg(official, model.state_dict())
    assert set(ours) == set(model.state_dict())
    width = model.backbone.vision_width
    # the last image block's queries, which nothing reads, are not trained here
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained - width * width
