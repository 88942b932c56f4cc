"""Gradients of CAT-Seg's published code, and the names and shapes of its two published models."""

from pathlib import Path

import pytest
import torch
from comparison import GoldenSet

from disa.errors import DisaError
from disa.model.disa import Disa
from disa.recipes import RECIPES
from disa.weights.catseg import from_catseg

CATSEG = Path(__file__).parent / "catseg"


@pytest.fixture(scope="module", params=["padded", "pruned"])
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    return GoldenSet(CATSEG / request.param)


def test_training_loss_and_gradients(golden: GoldenSet) -> None:
    """In 64 bit only the golden gradients are rounded, by up to 1.4e-4 of their largest value."""
    model = golden.model.double()
    model.zero_grad()
    loss = golden.loss()
    loss.backward()
    assert loss.item() == pytest.approx(golden.meta["train.loss"], rel=1e-5)

    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    zeros = {name: torch.zeros_like(value) for name, value in golden.weights.items()}
    compared = set()
    for name, theirs in golden.tensors.items():
        if not name.startswith("train.grad."):
            continue
        # as weights under our names: all are zero but the one whose gradient this is
        official = name.removeprefix("train.grad.")
        converted = from_catseg(zeros | {official: theirs}, model.state_dict())
        ours = next(key for key, value in converted.items() if value.abs().sum() > 0)
        difference = (gradients[ours] - converted[ours]).abs().max()
        assert difference <= 3e-4 * converted[ours].abs().max(), official
        compared.add(ours)
    assert len(compared) >= 6
    model.float()


def test_conversion_names_the_tensor_that_does_not_fit(golden: GoldenSet) -> None:
    expected = golden.model.state_dict()
    name = "sem_seg_head.predictor.transformer.conv1.weight"
    without = {key: value for key, value in golden.weights.items() if key != name}
    with pytest.raises(DisaError, match=r"cost\.embed\.weight"):
        from_catseg(without, expected)
    with pytest.raises(DisaError, match="surplus"):
        from_catseg({**golden.weights, "surplus": torch.zeros(1)}, expected)
    with pytest.raises(DisaError, match=r"transformer\.conv1\.weight"):
        from_catseg({**without, name: golden.weights[name][..., :5]}, expected)


@pytest.mark.parametrize(
    ("recipe", "keys"), [("vit-b-16-baseline", "keys_B.txt"), ("vit-l-14-baseline", "keys_L.txt")]
)
def test_names_and_shapes_of_the_published_models(recipe: str, keys: str) -> None:
    """Each line of the lists has a tensor's name, its shape, and whether it is trained."""
    official = {}
    trained = 0
    with torch.device("meta"):
        model = Disa(RECIPES[recipe]())
        for line in (CATSEG / keys).read_text().splitlines():
            name, shape, *mark = line.split("\t")
            sides = [int(side) for side in shape.strip("(),").split(",") if side.strip()]
            official[name] = torch.empty(sides)
            trained += official[name].numel() * (mark == ["trainable"])
        ours = from_catseg(official, model.state_dict())
    assert set(ours) == set(model.state_dict())

    # the published code also trains the queries of the last image block, which nothing reads
    width = model.backbone.vision_width
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == trained - width * width
