"""Saliency: closed form against autograd, equations against naive loops, splits by token."""

import itertools
import math
import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from disa.config import ModelConfig
from disa.model.saliency import SaliencyModule
from disa.model.split import foreground_count, split_tokens

HEADS = ["compare", "product", "linear"]


def build(d=16, heads=4, layers=3, head="compare", random=True, **fields):
    """A module in float64; `random` replaces every parameter, so that no zero hides a part."""
    torch.manual_seed(0)
    config = ModelConfig(
        {}, saliency_heads=heads, saliency_layers=layers, saliency_itm_head=head, **fields
    )
    module = SaliencyModule(config, d).double()
    if random:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return module


def inputs(b=2, t=5, d=16, h=3, w=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return draw(b, d, h, w), draw(t, d)


def with_attention(module, tokens, text):
    """The module's result and its last attention map as a leaf, to differentiate by."""
    last, seen = module.layers[-1], []
    attend = last.attend
    last.attend = lambda x, key: seen.append(attend(x, key).detach().requires_grad_()) or seen[0]
    try:
        return module(module.guide(tokens), text), seen[0]
    finally:
        del last.attend


@settings(max_examples=30, deadline=None)
@given(
    heads=st.sampled_from([1, 2, 3, 6, 8]),
    width=st.integers(1, 4),
    layers=st.integers(1, 4),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
    head=st.sampled_from(HEADS),
    seed=st.integers(0, 10**6),
)
def test_closed_form_equals_autograd(heads, width, layers, shape, head, seed):
    b, t, h, w = shape
    d = max(2, heads * width)
    d += d % heads
    module = build(d, heads, layers, head)
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    result, attention = with_attention(module, *inputs(b, t, d, h, w, seed))
    (gradient,) = torch.autograd.grad(result.matched.sum(), attention)
    expected = (attention * gradient.relu()).mean(2)
    torch.testing.assert_close(
        result.saliency, expected.detach(), rtol=1e-5, atol=1e-9 * expected.max().item()
    )


@pytest.mark.parametrize("head", HEADS)
def test_closed_form_in_single_precision(head):
    module = build(32, 8, 3, head).float()
    tokens, text = (x.float() for x in inputs(2, 6, 32, 4, 4))
    result, attention = with_attention(module, tokens, text)
    (gradient,) = torch.autograd.grad(result.matched.sum(), attention)
    expected = (attention * gradient.relu()).mean(2).detach()
    torch.testing.assert_close(
        result.saliency, expected, rtol=1e-4, atol=1e-5 * expected.max().item()
    )


def test_loss_gradient_is_that_of_the_cross_entropy():
    module = build(saliency_source="loss_gradient")
    result, attention = with_attention(module, *inputs())
    loss = F.binary_cross_entropy_with_logits(
        result.matched, torch.ones_like(result.matched), reduction="sum"
    )
    (gradient,) = torch.autograd.grad(loss, attention)
    torch.testing.assert_close(
        result.saliency, (attention * gradient.relu()).mean(2).detach(), rtol=1e-6, atol=1e-12
    )


def test_attention_source():
    tokens, text = inputs()
    module = build(saliency_source="attention")
    result = module(module.guide(tokens), text)
    torch.testing.assert_close(result.saliency, result.attention.mean(2))
    torch.testing.assert_close(result.attention.sum(-1), torch.ones_like(result.attention[..., 0]))


def naive_matched(module, tokens, text, kind):
    """Every category alone, every head alone, every token alone."""
    rms = lambda x, norm: x / torch.sqrt((x * x).mean() + 1e-6) * norm.weight  # noqa: E731
    own = text / text.norm()
    tokens = [token / token.norm() for token in tokens.flatten(1).T]
    x = own
    for layer in module.layers:
        query, width, parts = (
            layer.query.weight @ rms(x, layer.query_norm),
            len(x) // layer.heads,
            [],
        )
        for a in range(layer.heads):
            part = slice(a * width, (a + 1) * width)
            scale = layer.log_sharpness[a].exp() * layer.heads / math.sqrt(len(x))
            score = [
                (scale * (query[part] @ (layer.key.weight @ token)[part])).exp() for token in tokens
            ]
            parts.append(
                sum(
                    s / sum(score) * (layer.value.weight @ token)[part]
                    for s, token in zip(score, tokens, strict=True)
                )
            )
        x = x + layer.out.weight @ torch.cat(parts)
        x = x + layer.contract(F.gelu(layer.expand(rms(x, layer.mlp_norm))))
    head = module.head
    if kind == "linear":
        return head.linear(rms(x, head.norm))[0]
    length = (x - own).norm() if kind == "compare" else len(module.layers)
    return head.log_scale.exp() * (
        (x - own) @ own / length + (x - own) @ head.residual / length + head.bias
    )


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("random", [True, False])
def test_matched_logit_equals_a_naive_loop(kind, random):
    module, (tokens, text) = build(head=kind, random=random), inputs()
    matched = module(module.guide(tokens), text).matched
    for b, t in itertools.product(range(2), range(5)):
        torch.testing.assert_close(matched[b, t], naive_matched(module, tokens[b], text[t], kind))


def test_lengths_do_not_matter():
    module, (tokens, text) = build(), inputs()
    for one, other in zip(
        module(module.guide(tokens), text),
        module(module.guide(tokens * 7), text * 0.1),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("source", ["gradcam", "attention", "loss_gradient"])
def test_a_label_does_not_depend_on_the_others_nor_an_image_on_its_batch(source):
    module, (tokens, text) = build(saliency_source=source), inputs()
    whole = module(module.guide(tokens), text)
    order = torch.tensor([3, 0, 4, 1, 2])
    for all_, permuted in zip(whole, module(module.guide(tokens), text[order]), strict=True):
        torch.testing.assert_close(all_[:, order], permuted)
    for all_, alone in zip(whole, module(module.guide(tokens[1:]), text[2:3]), strict=True):
        torch.testing.assert_close(all_[1:, 2:3], alone)


@pytest.mark.parametrize("kind", ["compare", "product"])
@pytest.mark.parametrize(("heads", "layers"), [(1, 1), (4, 1), (8, 3)])
def test_untrained_comparing_head_ranks_a_planted_label_first(heads, layers, kind):
    module = build(256, heads, layers, kind, random=False)
    tokens, text = inputs(4, 20, 256, 6, 6)
    for image in range(
        4
    ):  # image i shows label i on 5 of 36 tokens, with noise as strong as the signal
        planted = text[image] / text[image].norm() * 16
        tokens[image].flatten(1)[:, 10:15] += planted[:, None]
    tokens += 1  # CLIP's tokens share a direction
    result = module(module.guide(tokens), text)
    assert result.matched.argmax(1).tolist() == [0, 1, 2, 3]
    for image in range(4):
        found = [
            token in range(10, 15)
            for token in result.saliency[image, image].topk(5).indices.tolist()
        ]
        assert found[0]
        assert (
            all(found) or kind == "compare"
        )  # the cosine's gradient leaves holes, see CompareHead


def test_the_gradient_of_the_loss_keeps_the_wrong_tokens():
    """Half of the image is the label: gradcam keeps this half, the loss's gradient the other."""
    own, foreign = torch.eye(16, dtype=torch.float64)[:2]
    tokens = torch.stack([own] * 8 + [foreign] * 8, 1).reshape(1, 16, 4, 4)
    right = torch.tensor([1.0] * 8 + [0.0] * 8, dtype=torch.float64)
    for source, expected in (("gradcam", right), ("loss_gradient", 1 - right)):
        module = build(
            heads=1, layers=1, random=False, saliency_source=source, saliency_top_share=0.5
        )
        torch.nn.init.zeros_(
            module.layers[0].log_sharpness
        )  # look about evenly, so that both halves are attended
        saliency = module(module.guide(tokens), own[None]).saliency.reshape(1, 1, 4, 4)
        config = ModelConfig({}, saliency_top_share=0.5)
        torch.testing.assert_close(split_tokens(saliency, config).flatten(), expected)


@pytest.mark.parametrize("split", ["top_k", "relative", "mass", "soft"])
def test_where_gradients_go(split):
    module, (tokens, text) = build(saliency_split=split), inputs()
    tokens.requires_grad_()
    text.requires_grad_()
    result = module(module.guide(tokens), text)
    assert result.saliency.requires_grad == (split == "soft")
    result.matched.sum().backward()
    assert tokens.grad is None
    assert text.grad is None


@pytest.mark.parametrize("kind", HEADS)
def test_every_parameter_learns_after_one_step(kind):
    module, (tokens, text) = build(head=kind, random=False), inputs()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    present = (torch.arange(10).reshape(2, 5) % 2).double()
    for _ in range(2):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(
            module(module.guide(tokens), text).matched, present
        ).backward()
        optimizer.step()
    still = [
        name for name, parameter in module.named_parameters() if not parameter.grad.abs().sum() > 0
    ]
    assert still == []


def test_published_counts_of_foreground_tokens():
    share = ModelConfig({}).saliency_top_share
    assert [foreground_count(n, share) for n in (576, 144, 36, 7, 2, 1)] == [96, 24, 6, 1, 1, 1]
    assert [foreground_count(n, 0.99) for n in (1, 2, 3, 10)] == [1, 1, 2, 9]


GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.integers(0, 4), min_size=math.prod(shape), max_size=math.prod(shape)
    ).map(lambda values: torch.tensor(values, dtype=torch.float64).reshape(1, 1, *shape))
)


@settings(max_examples=60, deadline=None)
@given(saliency=GRIDS, share=st.floats(0.01, 0.99))
def test_top_k_is_exact_and_breaks_ties_by_index(saliency, share):
    config = ModelConfig({}, saliency_split="top_k", saliency_top_share=share)
    values = saliency.flatten().tolist()
    ranked = sorted(range(len(values)), key=lambda token: (-values[token], token))
    chosen = set(ranked[: foreground_count(len(values), share)])
    assert split_tokens(saliency, config).flatten().tolist() == [
        float(token in chosen) for token in range(len(values))
    ]


@settings(max_examples=60, deadline=None)
@given(saliency=GRIDS, threshold=st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_relative_is_above_a_share_of_the_smoothed_peak(saliency, threshold):
    config = ModelConfig({}, saliency_split="relative", saliency_relative_threshold=threshold)
    h, w = saliency.shape[-2:]
    smooth = [
        [
            saliency[0, 0, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean().item()
            for x in range(w)
        ]
        for y in range(h)
    ]
    peak = max(map(max, smooth))
    foreground = split_tokens(saliency, config)[0, 0].tolist()
    for y, x in itertools.product(range(h), range(w)):
        if abs(smooth[y][x] - threshold * peak) > 1e-9:
            assert foreground[y][x] == float(smooth[y][x] > threshold * peak)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    mass=st.sampled_from([0.25, 0.5, 0.75]),
)
def test_mass_is_the_smallest_set_that_holds_the_share(values, mass):
    config = ModelConfig({}, saliency_split="mass", saliency_mass=mass)
    foreground = (
        split_tokens(torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1), config)
        .flatten()
        .tolist()
    )
    held = sum(value for value, chosen in zip(values, foreground, strict=True) if chosen)
    assert held >= mass * sum(values)
    smaller = itertools.combinations(values, max(int(sum(foreground)) - 1, 0))
    assert sum(values) == 0 or all(sum(some) < mass * sum(values) for some in smaller)
    assert sum(values) > 0 or sum(foreground) == 0


@settings(max_examples=30, deadline=None)
@given(saliency=GRIDS)
def test_soft_is_the_share_of_the_peak(saliency):
    saliency.requires_grad_()
    foreground = split_tokens(saliency, ModelConfig({}, saliency_split="soft"))
    torch.testing.assert_close(foreground * saliency.max(), saliency)
    assert foreground.max() == (1 if saliency.max() > 0 else 0)
    assert torch.autograd.grad(foreground.sum(), saliency)[0].isfinite().all()


@pytest.mark.parametrize("split", ["top_k", "relative", "mass", "soft"])
def test_splits_look_at_one_category_at_a_time(split):
    config = ModelConfig({}, saliency_split=split)
    saliency = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) ** 8
    whole = split_tokens(saliency, config)
    assert 0 < whole.mean() < 1
    for b, t in itertools.product(range(2), range(3)):
        alone = split_tokens(saliency[b : b + 1, t : t + 1] * 1e-3, config)
        torch.testing.assert_close(whole[b, t], alone[0, 0])


PROGRAM = """
import torch
from disa.config import ModelConfig
from disa.model.disentangle import Disentangle
from disa.model.saliency import SaliencyModule

class Sdm(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.saliency, self.disentangle = SaliencyModule(config, 16), Disentangle(config, 16)

    def forward(self, cost, tokens, text):
        saliency, matched, _ = self.saliency(self.saliency.guide(tokens), text)
        maps = saliency.unflatten(-1, tokens.shape[-2:])
        return *self.disentangle(cost, maps, self.disentangle.guide(tokens)), saliency, matched

def inputs(t):
    return torch.randn(2, t, 8, 4, 4), torch.randn(2, 16, 4, 4), torch.randn(t, 16)

torch.manual_seed(0)
for split, head in {"mass": "linear", "soft": "product"}.items():
    torch.compiler.reset()
    sizes = {"cost_channels": 8, "saliency_heads": 4, "saliency_layers": 2}
    config = ModelConfig({}, saliency_split=split, saliency_itm_head=head, **sizes)
    model = Sdm(config).eval()
    torch.nn.init.normal_(model.disentangle.project.weight)
    with torch.inference_mode():
        results = [(x := inputs(t), model(*x)) for t in (3, 5)]
    example = inputs(4)
    t = torch.export.Dim("t", min=2)
    shapes = ({1: t}, {}, {0: t})
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    exported = torch.export.export(model, example, dynamic_shapes=shapes).module()
    for x, expected in results:
        x = tuple(part.clone() for part in x)
        for program in (compiled, exported) if len(x[2]) == 3 else (exported,):
            parts = tuple(part.clone() for part in expected)
            torch.testing.assert_close(program(*x), parts, rtol=1e-4, atol=1e-5)
    print(split, "agrees")
"""


@pytest.mark.slow
def test_inference_mode_compile_and_export_agree():
    """In a process of its own: the shape checks of the test run do not compile.

    What the recipes choose is compiled and exported within the whole network.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["mass", "agrees", "soft", "agrees"]
