"""Losses against loops over pixels."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from disa.model.disa import Prediction
from disa.model.losses import (
    IGNORED,
    itm_loss,
    loss_counts,
    mask_loss,
    segmentation_loss,
    things_loss,
)
from disa.recipes import mini


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def target() -> torch.Tensor:
    """Two of three labels, a third of the pixels ignored."""
    target = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    return torch.where(target == 1, IGNORED, target)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("masked", [True, False])
def test_mask_loss(logits, target, masked):
    terms = []
    for b in range(2):
        for y in range(4):
            for x in range(5):
                if masked and target[b, y, x] == IGNORED:
                    continue
                for t in range(3):
                    chance = sigmoid(logits[b, t, y, x].item())
                    terms.append(-math.log(chance if target[b, y, x] == t else 1 - chance))
    counted = target != IGNORED if masked else torch.ones_like(target, dtype=torch.bool)
    assert mask_loss(logits, target, counted).item() == pytest.approx(
        sum(terms) / len(terms), rel=1e-5
    )


def test_itm_loss(target):
    matched = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 4.0, 0.0]])
    terms = []
    for b in range(2):
        for t in range(3):
            chance = sigmoid(matched[b, t].item())
            terms.append(-math.log(chance if (target[b] == t).any() else 1 - chance))
    assert itm_loss(matched, target).item() == pytest.approx(sum(terms) / 6, rel=1e-5)


def test_total_is_the_weighted_sum_at_the_targets_size(small, target):
    logits = torch.randn(2, 3, 2, 2)
    prediction = Prediction(logits, None, torch.randn(2, 3), None)
    config = small(loss_ignored="masked", loss_itm_weight=0.5)
    losses = segmentation_loss(prediction, target, config)
    resized = F.interpolate(logits, (4, 5), mode="bilinear", align_corners=False)
    assert losses["mask"] == mask_loss(resized, target, target != IGNORED)
    expected = losses["mask"] + 0.5 * losses["itm"]
    torch.testing.assert_close(losses["total"], expected)
    plain = segmentation_loss(
        prediction._replace(matched=None), target, small(loss_ignored="negative")
    )
    assert set(plain) == {"mask", "total"}
    assert plain["total"] == mask_loss(resized, target, torch.ones_like(target, dtype=torch.bool))


def test_things_are_told_from_stuff_wherever_there_is_a_label(small, target):
    things = torch.randn(2, 4, 5)
    is_thing = torch.tensor([True, False, True])
    terms = []
    for logit, label in zip(things.flatten().tolist(), target.flatten().tolist(), strict=True):
        if label != IGNORED:
            chance = sigmoid(logit)
            terms.append(-math.log(chance if is_thing[label] else 1 - chance))
    expected = sum(terms) / len(terms)
    assert things_loss(things, target, is_thing).item() == pytest.approx(expected, rel=1e-5)

    prediction = Prediction(torch.randn(2, 3, 4, 5), None, None, None, things)
    config = small(loss_thing_weight=0.5)
    losses = segmentation_loss(prediction, target, config, is_thing=is_thing)
    torch.testing.assert_close(losses["total"], losses["mask"] + 0.5 * losses["things"])
    # A data set that does not say what is a thing cannot teach it.
    assert set(segmentation_loss(prediction, target, config)) == {"mask", "total"}


@pytest.mark.parametrize("ignored", ["masked", "negative"])
def test_a_crop_without_any_labelled_pixel_is_finite(small, ignored):
    prediction = Prediction(
        torch.randn(1, 3, 4, 4, requires_grad=True), None, torch.zeros(1, 3), None
    )
    target = torch.full((1, 4, 4), IGNORED)
    losses = segmentation_loss(prediction, target, small(loss_ignored=ignored))
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    assert (prediction.logits.grad.abs().sum() == 0) == (ignored == "masked")


def test_counts_are_those_of_a_loop_and_hold_more_labels_than_a_byte():
    target = torch.tensor(
        [[[846, 846, IGNORED, 255]], [[IGNORED, IGNORED, IGNORED, IGNORED]], [[255, 0, 1, 2]]]
    )
    config = mini(loss_ignored="masked")
    assert loss_counts(target, config).tolist() == [7, 3, 7]
    assert loss_counts(target, config.replace(loss_ignored="negative")).tolist() == [12, 3, 7]
    assert loss_counts(target, config).dtype == torch.int64
    assert loss_counts(target[1:2], config).tolist() == [0, 1, 0]


@given(
    st.lists(st.sampled_from(["labelled", "partly", "ignored"]), min_size=1, max_size=6),
    st.data(),
    st.sampled_from(["masked", "negative"]),
    st.integers(0, 10_000),
)
def test_parts_add_up_to_the_whole_batch(
    kinds: list[str], data: st.DataObject, ignored: str, seed: int
):
    draw = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 4, (len(kinds), 6, 5), generator=draw)
    for image, kind in zip(target, kinds, strict=True):
        if kind == "partly":
            image[torch.rand(6, 5, generator=draw) < 0.7] = IGNORED
        elif kind == "ignored":
            image.fill_(IGNORED)
    logits = torch.randn(
        len(kinds), 4, 3, 3, generator=draw, dtype=torch.float64, requires_grad=True
    )
    matched = torch.randn(len(kinds), 4, generator=draw, dtype=torch.float64, requires_grad=True)
    things = torch.randn(len(kinds), 3, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    is_thing = torch.tensor([True, False, True, False])
    config = mini(loss_ignored=ignored, loss_itm_weight=0.3)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(kinds)), max_size=5)) | {0, len(kinds)})
    parts = [slice(*ends) for ends in itertools.pairwise(cuts)]

    def loss(part: slice, counts: torch.Tensor | None) -> dict[str, torch.Tensor]:
        return segmentation_loss(
            Prediction(logits[part], None, matched[part], None, things[part]),
            target[part],
            config,
            counts,
            is_thing,
        )

    whole = loss(slice(None), None)
    expected = torch.autograd.grad(whole["total"], (logits, matched, things))
    counts = torch.stack([loss_counts(target[part], config) for part in parts]).sum(0)
    assert torch.equal(counts, loss_counts(target, config))
    losses = [loss(part, counts) for part in parts]
    for name in ("mask", "itm", "things", "total"):
        torch.testing.assert_close(
            sum(each[name] for each in losses), whole[name], rtol=1e-6, atol=1e-6
        )
    found = torch.autograd.grad(sum(each["total"] for each in losses), (logits, matched, things))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
