from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from small_run import small_config

from disa.model.disa import Disa
from disa.training.optimizer import learning_rate, optimizer, set_learning_rate
from disa.training.settings import TrainConfig

SETTINGS = TrainConfig(steps=100, warmup=10, lr=1.0, clip_lr_scale=0.05, weight_decay=0.3)


@pytest.mark.parametrize("mode", ["frozen", "qk", "qv", "full"])
def test_groups_hold_exactly_the_named_parameters(mode: str) -> None:
    model = Disa(small_config(backbone_finetune=mode))
    groups = model.parameter_groups()
    adam = optimizer(model, groups, SETTINGS)
    held = {name: group for group in adam.param_groups for name in group["names"]}
    assert set(held) == {*groups["head"], *groups["clip"]}
    assert bool(groups["clip"]) == (mode != "frozen")
    parameters = dict(model.named_parameters())
    for name, group in held.items():
        assert any(parameters[name] is member for member in group["params"])
        assert group["scale"] == (0.05 if name in groups["clip"] else 1.0)
        assert group["weight_decay"] == (0.3 if parameters[name].ndim > 1 else 0.0)
    assert {name for name, p in parameters.items() if p.requires_grad} == set(held)


def test_rate_warms_up_then_falls_to_zero() -> None:
    rates = [learning_rate(step, SETTINGS) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert all(later <= earlier for earlier, later in pairwise(rates[9:]))
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert learning_rate(0, replace(SETTINGS, warmup=0)) == 1.0


def test_clip_learns_at_its_share_of_the_rate() -> None:
    model = Disa(small_config())
    adam = optimizer(model, model.parameter_groups(), SETTINGS)
    assert set_learning_rate(adam, 4, SETTINGS) == pytest.approx(0.5)
    assert {round(group["lr"], 6) for group in adam.param_groups} == {0.5, 0.025}


def test_what_is_not_named_stays_as_it_is() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    before = model[0].weight.clone()
    adam = optimizer(model, {"head": ["1.weight"]}, SETTINGS)
    model(torch.ones(1, 2)).sum().backward()
    adam.step()
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.grad is None
