"""Disentanglement: against naive loops, at its start, at degenerate sizes."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from disa.config import ModelConfig
from disa.model.disentangle import Disentangle
from disa.model.split import split_tokens

SPLITS = ["top_k", "relative", "mass", "soft"]
AGGREGATIONS = ["weighted", "sum", "concat"]


def build(random=True, **fields):
    """A module in float64; `random` replaces every parameter, so that no zero hides a part."""
    torch.manual_seed(0)
    module = Disentangle(
        ModelConfig({}, cost_channels=8, disentangle_heads=2, **fields), 12
    ).double()
    if random:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return module


def inputs(b=2, t=3, h=3, w=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(b, t, 8, h, w), draw(b, t, h, w).relu(), draw(b, 12, h, w)


def naive_branch(branch, x, guidance, weight):
    """Refine a list of tokens, each looking at every other by its weight."""
    normed = [branch.attention_norm(token) for token in x]
    both = [
        branch.query_key(torch.cat([token, guide]))
        for token, guide in zip(normed, guidance, strict=True)
    ]
    values, c, refined = [branch.value(token) for token in normed], len(x[0]), []
    width = c // branch.heads
    for i, token in enumerate(x):
        parts = []
        for a in range(branch.heads):
            part, key = slice(a * width, (a + 1) * width), slice(c + a * width, c + (a + 1) * width)
            score = [
                wj * (both[i][part] @ bj[key] / math.sqrt(width)).exp()
                for bj, wj in zip(both, weight, strict=True)
            ]
            parts.append(
                sum(s / sum(score) * value[part] for s, value in zip(score, values, strict=True))
            )
        token = token + branch.out(torch.cat(parts))
        refined.append(token + branch.mlp(branch.mlp_norm(token)))
    return refined


def naive_aggregate(aggregation, own, other, saliency):
    if aggregation.kind == "sum":
        return own + other
    if aggregation.kind == "concat":
        return aggregation.own(own) + aggregation.other(other)
    joined = torch.cat([own, other, saliency[None]])
    weights = torch.cat(
        [aggregation.own.weight, aggregation.other.weight, aggregation.saliency.weight], 1
    )
    weight = torch.sigmoid(aggregation.weight(F.gelu(weights @ joined + aggregation.own.bias)))
    return weight * own + (1 - weight) * other


def naive_change(module, cost, saliency, tokens, foreground):
    """What the module adds to one label of one image: lists `n c`, `n`, `n g`, `n`."""
    strength = saliency / saliency.max()
    sides = []
    for branch, side, pool in (
        (module.foreground, foreground, strength),
        (module.background, 1 - foreground, 1 - strength),
    ):
        refined = naive_branch(branch, cost, tokens, side)
        weight = side * (pool + 1e-4)
        ensemble = sum(
            wi * token for wi, token in zip(weight, refined, strict=True)
        ) / weight.sum().clamp_min(1e-30)
        sides.append((refined, ensemble))
    (front, front_ensemble), (back, back_ensemble) = sides
    return torch.stack(
        [
            module.project(
                foreground[i]
                * naive_aggregate(module.aggregate, front[i], back_ensemble, strength[i])
                + (1 - foreground[i])
                * naive_aggregate(module.aggregate, back[i], front_ensemble, strength[i])
            )
            for i in range(len(cost))
        ]
    )


@pytest.mark.parametrize(
    ("split", "aggregation"),
    [("top_k", kind) for kind in AGGREGATIONS] + [(split, "weighted") for split in SPLITS[1:]],
)
def test_equals_a_naive_loop(split, aggregation):
    fields = {"saliency_top_share": 0.3, "saliency_relative_threshold": 0.7}
    module = build(saliency_split=split, disentangle_aggregation=aggregation, **fields)
    cost, saliency, tokens = inputs()
    result, foreground = module(cost, saliency, module.guide(tokens))
    torch.testing.assert_close(foreground, split_tokens(saliency, module.config))
    assert ((foreground.flatten(2) > 0).any(-1) & (foreground.flatten(2) < 1).any(-1)).all()
    guidance = module.guidance_norm(module.guidance(tokens).flatten(2).transpose(1, 2))
    for b, t in itertools.product(range(2), range(3)):
        change = naive_change(
            module,
            cost[b, t].flatten(1).T,
            saliency[b, t].flatten(),
            guidance[b],
            foreground[b, t].flatten(),
        )
        torch.testing.assert_close((result - cost)[b, t].flatten(1).T, change)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_gathered_tokens_equal_masked_attention(share):
    module = build(saliency_top_share=share)
    x, guidance, strength = torch.randn(5, 20, 8), torch.randn(5, 20, 4), torch.rand(5, 20)
    foreground = split_tokens(strength[None, :, None], module.config)[0, :, 0].double()
    arguments = x.double(), guidance.double(), foreground, strength.double()
    torch.testing.assert_close(module.refine_gathered(*arguments), module.refine_masked(*arguments))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_fresh_module_changes_nothing_and_then_everything_learns(split, aggregation):
    module = build(random=False, saliency_split=split, disentangle_aggregation=aggregation)
    cost, saliency, tokens = inputs()
    target = torch.randn(
        cost.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    assert torch.equal(module(cost, saliency, module.guide(tokens))[0], cost)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(module(cost, saliency, module.guide(tokens))[0], target).backward()
        optimizer.step()
    still = [
        name for name, parameter in module.named_parameters() if not parameter.grad.abs().sum() > 0
    ]
    assert still == []


@pytest.mark.parametrize("aggregation", ["weighted", "concat"])
def test_a_token_starts_near_its_own_side(aggregation):
    module = build(random=False, disentangle_aggregation=aggregation)
    own, other, saliency = (
        torch.randn(4, 9, 8).double(),
        torch.randn(4, 1, 8).double(),
        torch.rand(4, 9).double(),
    )
    joined = module.aggregate(own, other, saliency)
    assert (joined - own).norm() < 0.1 * (other - own).norm()


@pytest.mark.parametrize("split", SPLITS)
def test_a_label_does_not_depend_on_the_others_nor_an_image_on_its_batch(split):
    module, (cost, saliency, tokens) = build(saliency_split=split), inputs()
    whole = module(cost, saliency, module.guide(tokens))
    order = torch.tensor([2, 0, 1])
    for all_, permuted in zip(
        whole, module(cost[:, order], saliency[:, order], module.guide(tokens)), strict=True
    ):
        torch.testing.assert_close(all_[:, order], permuted)
    for all_, alone in zip(
        whole, module(cost[1:, 1:2], saliency[1:, 1:2], module.guide(tokens[1:])), strict=True
    ):
        torch.testing.assert_close(all_[1:, 1:2], alone)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 5)])
def test_any_grid_and_labels_without_saliency(split, size):
    module, (cost, saliency, tokens) = build(saliency_split=split), inputs(h=size[0], w=size[1])
    saliency[:, 0] = 0
    cost.requires_grad_()
    tokens.requires_grad_()
    result, foreground = module(cost, saliency, module.guide(tokens))
    assert result.shape == cost.shape
    assert result.isfinite().all()
    assert foreground.shape == saliency.shape
    gradients = torch.autograd.grad(
        result.square().sum(), (cost, tokens, *module.parameters()), allow_unused=True
    )
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("split", SPLITS)
def test_a_label_without_any_saliency_leaves_gradients_finite(split):
    """Seen in training: a label's gradients were all negative, and one over its peak overflowed."""
    module, (cost, saliency, tokens) = build(saliency_split=split), inputs()
    saliency = saliency.clone()
    saliency[:, 0] = 0
    saliency.requires_grad_(split == "soft")
    refined, foreground = module(cost, saliency, module.guide(tokens))
    (1e3 * refined.square().sum() + foreground.sum()).backward()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    if split == "soft":
        assert saliency.grad.isfinite().all()
        assert (saliency.grad[:, 0] == 0).all()


def test_soft_split_is_learnt_through():
    module, (cost, saliency, tokens) = build(saliency_split="soft"), inputs()
    saliency[:, 0] = 0
    saliency.requires_grad_()
    (gradient,) = torch.autograd.grad(
        module(cost, saliency, module.guide(tokens))[0].square().sum(), saliency
    )
    assert gradient.isfinite().all()
    assert gradient[:, 1:].abs().sum() > 0


def test_the_unit_of_the_saliency_does_not_matter():
    module, (cost, saliency, tokens) = build(), inputs()
    torch.testing.assert_close(
        module(cost, saliency, module.guide(tokens))[0],
        module(cost, saliency * 1e-6, module.guide(tokens))[0],
    )
