"""What every recipe promises, whatever it is made of."""

import pytest
import torch
import torch.nn.functional as F

from disa.errors import DisaError
from disa.model.disa import Disa
from disa.model.losses import segmentation_loss
from disa.model.split import split_tokens

EXACT = {"rtol": 1e-4, "atol": 1e-5}


@torch.no_grad()
@pytest.mark.parametrize("size", [(48, 48), (40, 72), (104, 24), (8, 8)])
def test_any_resolution(model, text, size):
    """Odd, oblong and single-token grids; no side is a multiple of the windows' 4."""
    h, w = size[0] // 8, size[1] // 8
    out = model(torch.rand(1, 3, *size) * 255, text(3))
    assert out.logits.shape == (1, 3, 4 * h, 4 * w)
    assert torch.isfinite(out.logits).all()
    if out.saliency is not None:
        assert out.saliency.shape == out.foreground.shape == (1, 3, h, w)
        assert (out.saliency >= 0).all()
        assert out.matched.shape == (1, 3)


@torch.no_grad()
@pytest.mark.parametrize("labels", [1, 2, 7, 300])
def test_any_number_of_labels(model, text, pixels, labels):
    out = model(pixels[:1], text(labels))
    assert out.logits.shape == (1, labels, 24, 24)
    dropped = (out.logits == model.config.dropped_logit).all(dim=(2, 3)).sum()
    assert dropped == max(0, labels - model.config.max_categories)


@torch.no_grad()
def test_permuting_labels_permutes_everything(model, text, pixels):
    embeddings, order = text(5), torch.tensor([3, 0, 4, 2, 1])
    plain, permuted = model(pixels, embeddings), model(pixels, embeddings[order])
    for before, after in zip(plain, permuted, strict=True):
        if before is not None:
            torch.testing.assert_close(before[:, order], after, **EXACT)


@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch(model, text, pixels):
    embeddings = text(5)
    both, alone = model(pixels, embeddings), model(pixels[1:], embeddings)
    for together, single in zip(both, alone, strict=True):
        if together is not None:
            torch.testing.assert_close(together[1:], single, **EXACT)


@torch.no_grad()
def test_two_vocabularies_in_a_row_give_what_each_gives_alone(model, text, pixels):
    first = model(pixels, text(4, seed=1)).logits
    model(pixels, text(6, seed=2))
    assert torch.equal(model(pixels, text(4, seed=1)).logits, first)


def test_inference_mode(model, text, pixels):
    with torch.inference_mode():
        inferred = model(pixels, text(3))
    trained = model(pixels, text(3))
    torch.testing.assert_close(inferred.logits, trained.logits.detach(), **EXACT)
    if inferred.saliency is not None:
        torch.testing.assert_close(inferred.saliency, trained.saliency.detach(), **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("recipe", ["mini", "vit-b-16", "vit-l-14"])
@pytest.mark.parametrize("training", [False, True])
def test_a_fresh_disa_gives_the_logits_of_its_baseline(small, text, pixels, recipe, training):
    torch.manual_seed(0)
    full, baseline = Disa(small(recipe)), Disa(small(f"{recipe}-baseline"))
    left_over = baseline.load_state_dict(
        {k: v for k, v in full.state_dict().items() if k in baseline.state_dict()}
    )
    assert not left_over.missing_keys
    assert len(full.state_dict()) > len(baseline.state_dict())
    full.train(training), baseline.train(training)
    embeddings = text(5)
    assert torch.equal(full(pixels, embeddings).logits, baseline(pixels, embeddings).logits)


@torch.no_grad()
def test_what_distinguishes_disa_from_its_baseline_has_an_effect(make, text, pixels):
    embeddings, full = text(5), make()
    for off in (
        {"disentangle": False},
        {"refine_category_reweight": False},
        {"refine_semantic": False},
    ):
        part = make(**off)
        part.load_state_dict({k: v for k, v in full.state_dict().items() if k in part.state_dict()})
        assert not torch.allclose(
            part(pixels, embeddings).logits, full(pixels, embeddings).logits, atol=1e-3
        ), off


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"refine_pixel": False},
        {"refine_category": False},
        {
            "refine_pixel": False,
            "refine_category": False,
            "refine_semantic": False,
            "refine_category_reweight": False,
        },
        {"refine_levels": 0},
        {"decode_detail_channels": 3},
        {"cost_kernel": 1},
        {"backbone_templates": ("a {}", "the {}")},
        {"saliency_split": "soft"},
        {"saliency_split": "relative"},
        {"saliency_source": "attention"},
        {"saliency_source": "things", "things": True},
        {"decode_foreground": True, "things": True},
        {"saliency_itm_head": "linear"},
        {"disentangle_aggregation": "concat"},
    ],
)
def test_every_part_can_be_switched(make, text, pixels, changes):
    model = make(**changes)
    out = model(pixels, text(4, len(model.config.backbone_templates)))
    assert out.logits.shape == (2, 4, 24, 24)
    assert not torch.allclose(out.logits[0], out.logits[1])
    assert not torch.allclose(out.logits[:, 0], out.logits[:, 1])


@pytest.mark.parametrize("recipe", ["mini", "vit-b-16-baseline"])
@pytest.mark.parametrize("mode", ["frozen", "qk", "qv", "full"])
def test_gradients_reach_exactly_what_the_mode_lists(make, pixels, recipe, mode):
    model = make(recipe, backbone_finetune=mode).train()
    ids = torch.tensor([[38, 3, 39], [38, 4, 39], [38, 5, 39]])
    target = torch.randint(0, 3, (2, 48, 48), generator=torch.Generator().manual_seed(2))
    prediction = model(pixels, model.encode_text(ids)[:, None])
    segmentation_loss(prediction, target, model.config)["total"].backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    groups = model.parameter_groups()
    assert reached == set(groups["head"]) | set(groups["clip"])
    assert {
        name for name, p in model.named_parameters() if not name.startswith("backbone.")
    } == set(groups["head"])
    still = [
        name
        for name in reached
        if not model.get_parameter(name).grad.any() and "key.bias" not in name
    ]
    assert not still


@torch.no_grad()
def test_beyond_the_most_labels_only_the_likeliest_of_each_image_are_computed(make, text, pixels):
    model, embeddings = make(max_categories=3), text(7)
    out = model(pixels, embeddings)
    tokens = F.normalize(model.backbone(pixels).tokens.flatten(2), dim=1)
    score = torch.einsum("t d, b d n -> b t n", embeddings[:, 0], tokens).amax(-1)
    for image in range(2):
        kept = sorted(score[image].argsort(descending=True)[:3].tolist())
        others = [index for index in range(7) if index not in kept]
        assert (out.logits[image, others] == -100).all()
        assert (out.foreground[image, others] == 0).all()
        alone = model(pixels[image : image + 1], embeddings[kept])
        torch.testing.assert_close(out.logits[image, kept], alone.logits[0], **EXACT)
        torch.testing.assert_close(out.foreground[image, kept], alone.foreground[0], **EXACT)


@torch.no_grad()
def test_foreground_is_the_split_of_the_saliency(make, text, pixels):
    model = make()
    out = model(pixels, text(4))
    assert torch.equal(out.foreground, split_tokens(out.saliency, model.config))


@torch.no_grad()
def test_saliency_of_a_label_does_not_depend_on_the_others(make, text, pixels):
    model, embeddings = make(), text(5)
    together, alone = model(pixels, embeddings), model(pixels, embeddings[2:3])
    torch.testing.assert_close(together.saliency[:, 2:3], alone.saliency, **EXACT)
    torch.testing.assert_close(together.matched[:, 2:3], alone.matched, **EXACT)


def test_matching_does_not_train_clip(make, pixels):
    model = make()
    embeddings = model.encode_text(torch.tensor([[38, 3, 39], [38, 4, 39]]))[:, None]
    model(pixels, embeddings).matched.sum().backward()
    reached = [
        name
        for name, p in model.named_parameters()
        if name.startswith("backbone.") and p.grad is not None
    ]
    assert not reached


def test_matching_may_learn_no_more_than_its_scale(make, text, pixels):
    model = make(saliency_trains="scale")
    model(pixels, text(3)).matched.sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"saliency.head.log_scale", "saliency.head.bias"}
    assert reached <= set(model.parameter_groups()["head"])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("split", ["top_k", "relative", "mass", "soft"])
@pytest.mark.parametrize("head", ["compare", "product"])
def test_sixteen_bits_stay_finite_and_near(make, text, pixels, dtype, split, head):
    """Labels without any saliency are the hard case: their peaks and weights are zero."""
    model, embeddings = make(saliency_split=split, saliency_itm_head=head), text(6)
    model.saliency.head.residual.zero_()
    whole, half = model(pixels, embeddings), model.to(dtype)(pixels.to(dtype), embeddings.to(dtype))
    assert all(value is None or value.isfinite().all() for value in half)
    assert (half.logits - whole.logits).abs().mean() < 0.2 * whole.logits.std()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_reach_the_pixels(make, text, pixels, dtype):
    model, embeddings = make(decode_detail_channels=3, decode_enlarge=True, things=True), text(6)
    whole, half = model(pixels, embeddings), model.to(dtype)(pixels.to(dtype), embeddings.to(dtype))
    assert half.logits.dtype == half.things.dtype == dtype
    assert (half.logits - whole.logits).abs().mean() < 0.2 * whole.logits.std()
    assert (half.things - whole.things).abs().mean() < 0.2 * whole.things.std()


@torch.no_grad()
def test_things_know_no_labels_and_change_none(make, text, pixels):
    embeddings = text(6)
    model = make(things=True)
    prediction = model(pixels, embeddings)
    assert prediction.things.shape == (len(pixels), *prediction.logits.shape[2:])
    assert torch.equal(model(pixels, embeddings[:2]).things, prediction.things)

    without = make()
    without.load_state_dict(model.state_dict(), strict=False)
    assert without(pixels, embeddings).things is None
    assert torch.equal(without(pixels, embeddings).logits, prediction.logits)


def test_things_train_their_readers_and_not_clip(make, text, pixels):
    model = make(things=True, decode_detail_channels=3, decode_enlarge=True)
    model(pixels, text(3)).things.sum().backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"things", "decode"}
    assert model.decode.upsample1.weight.grad is None


@torch.no_grad()
@pytest.mark.parametrize("side", [48, 64])
def test_details_of_the_image_give_logits_for_every_pixel(make, text, side):
    model = make(decode_detail_channels=3, decode_enlarge=True, things=True)
    pixels = torch.rand(2, 3, side, side) * 255
    prediction = model(pixels, text(5))
    assert prediction.logits.shape == (2, 5, side, side)
    assert prediction.things.shape == (2, side, side)


def test_refusals(make, text, pixels):
    model = make()
    with pytest.raises(DisaError, match=r"2 prompts"):
        model(pixels, text(3, 2))
    with pytest.raises(DisaError, match="patch, 8"):
        model(pixels[..., :47], text(3))
    for needs_both in ({"decode_foreground": True}, {"saliency_source": "things"}):
        for lacking in ({"things": False}, {"things": True, "disentangle": False}):
            with pytest.raises(DisaError, match="things=true"):
                make(**needs_both, **lacking)
    with pytest.raises(DisaError, match="product or compare"):
        make(saliency_itm_head="linear", saliency_trains="scale")
    with pytest.raises(DisaError, match="decode_detail_channels"):
        make(decode_enlarge=True)
    with pytest.raises(DisaError, match="0 to 2"):
        make(backbone_guidance_blocks=(1, 3))
