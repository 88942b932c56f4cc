"""The baseline against tensors of CAT-Seg's published code, stage by stage. Skipped where they are not at hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from safetensors.torch import load_file

from disa.errors import DisaError
from disa.model.catseg import from_catseg
from disa.model.cost import correlate
from disa.model.disa import Disa
from disa.model.losses import segmentation_loss
from disa.recipes import vit_b16_baseline

SHARED = Path(os.environ.get("DISA_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
pytestmark = pytest.mark.skipif(not (SHARED / "golden").is_dir(), reason="golden tensors not at hand (DISA_SHARED)")


class Golden:
    """One set: the model with its weights, inputs, and everything that the published code computed."""

    def __init__(self, name: str) -> None:
        folder = SHARED / "golden" / name
        self.io, self.meta = load_file(folder / "io.safetensors"), json.loads((folder / "meta.json").read_text())
        self.official = load_file(folder / "weights.safetensors")
        self.model = Disa(config_of(self.meta["config"]))
        self.model.load_state_dict(from_catseg(self.official, self.model.state_dict()))
        self.model.eval()
        self.pixels = self.io["in.image"][None].float()
        self.ids = self.io["in.tokens"].long()

    @torch.no_grad()
    def run(self, pool: int) -> dict[str, torch.Tensor]:
        """Return the stages of one forward pass under the published names."""
        seen: dict[str, torch.Tensor] = {}
        handles = []

        def record(module: torch.nn.Module, name: str) -> None:
            handles.append(module.register_forward_hook(lambda _module, _inputs, output: seen.update({name: output})))

        model = self.model
        for index, level in enumerate(model.refine.levels):
            level.category.pool_test = pool
            record(level.pixel.plain, f"layer{index}.swin1")
            record(level.pixel.shifted, f"layer{index}.swin2")
            record(level, f"layer{index}.out")
        for name in ("cost", "refine.visual", "refine.text", "decode.guidance1", "decode.guidance2"):
            record(model.get_submodule(name), name)
        for name in ("decode.upsample1", "decode.upsample2", "decode.step1", "decode.step2", "backbone"):
            record(model.get_submodule(name), name)
        seen["text"] = model.encode_text(self.ids)
        seen["logits"] = model(self.pixels, seen["text"][:, None]).logits
        for handle in handles:
            handle.remove()
        return seen


def config_of(facts: dict[str, Any]) -> Any:
    """Return the configuration that the golden set's facts describe."""
    clip, head = facts["clip"], facts["head"]

    def tower(width: int, layers: int, heads: int) -> dict[str, Any]:
        sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
        return {**sizes, "intermediate_size": 4 * width, "hidden_act": "quick_gelu"}

    text = {"vocab_size": clip["vocab"], "max_position_embeddings": clip["ctx"], "eos_token_id": clip["vocab"] - 1}
    backbone = {
        "projection_dim": clip["embed"],
        "text_config": {**tower(clip["tw"], clip["tl"], clip["theads"]), **text},
        "vision_config": {
            **tower(clip["vw"], clip["vl"], clip["vheads"]),
            "patch_size": clip["patch"],
            "image_size": clip["image"],
        },
    }
    return vit_b16_baseline(
        backbone_clip=backbone,
        cost_channels=head["hidden"],
        refine_heads=head["nheads"],
        refine_levels=head["layers"],
        refine_guidance_channels=head["ag"],
        refine_padding=facts["pad_len"],
        max_categories=facts["pad_len"],
        decode_channels=tuple(head["dec"]),
        decode_guidance_source=tuple(head["dg"]),
        decode_guidance_channels=tuple(head["dgp"]),
    )


@pytest.fixture(scope="module", params=["a", "c"])
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-4) -> None:
    """Compare with a tolerance relative to the largest value where that exceeds 1."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * max(1.0, theirs.abs().max().item())


def test_stages_of_the_forward_pass(golden: Golden) -> None:
    io, seen, kept = golden.io, golden.run(pool=1), golden.meta["fwd.class_ids"]
    visual = seen["backbone"]
    close(seen["text"], io["fwd.text.embeds_normalized"], 1e-6)
    close(rearrange(visual.tokens, "1 d h w -> (h w) d"), io["fwd.vis.dense_features"][1:])
    for tap, name in ((visual.first, "fwd.vis.block3_s2"), (visual.second, "fwd.vis.block7_s2")):
        close(rearrange(tap, "1 v h w -> (h w) v")[1::2], io[name][1:])  # every second token, the class token first
    correlation = correlate(visual.tokens, seen["text"][:, None])[0, :, 0]
    close(correlation, io["fwd.agg.correlation"], 1e-6)
    close(correlation.amax((1, 2)), io["fwd.agg.scores_max"], 1e-6)
    close(seen["cost"][0, ..., ::2, ::2], io["fwd.agg.corr_embed_s2"])
    close(seen["refine.visual"].relu()[0], io["fwd.agg.guidance_proj"])
    close(seen["refine.text"].relu()[0], io["fwd.agg.text_guidance_proj"])
    close(seen["decode.upsample1"][0, :, ::2, ::2], io["fwd.seg.res4_s2"])
    close(seen["decode.upsample2"][0, :, ::4, ::4], io["fwd.seg.res5_s4"])
    close(seen["decode.guidance1"].relu()[0, :, ::2, ::2], io["fwd.agg.decoder_guidance_proj0_s2"])
    close(seen["decode.guidance2"].relu()[0, :, ::4, ::4], io["fwd.agg.decoder_guidance_proj1_s4"])
    for name in (key for key in io if key.startswith("fwd.agg.layer")):
        ours = seen[name.removeprefix("fwd.agg.").removesuffix("_s2")]
        close(rearrange(ours, "1 t h w c -> t c h w")[..., ::2, ::2], io[name])
    close(seen["decode.step1"][0, ..., ::4, ::4], io["fwd.dec.decoder1_s4"])
    close(seen["decode.step2"][0, ..., ::4, ::4], io["fwd.dec.decoder2_s4"])
    assert (seen["logits"][0].amax((1, 2)) > -100).nonzero().flatten().tolist() == kept
    close(seen["logits"][0], io["fwd.logits"], 1e-5)


def test_pooling_of_two_as_in_training(golden: Golden) -> None:
    seen = golden.run(pool=2)
    for name in (key for key in golden.io if key.startswith("fwd_pool2.agg.layer")):
        ours = seen[name.removeprefix("fwd_pool2.agg.").removesuffix("_s2")]
        close(rearrange(ours, "1 t h w c -> t c h w")[..., ::2, ::2], golden.io[name])
    close(seen["logits"][0, :, ::2, ::2], golden.io["fwd_pool2.logits_s2"])


def test_final_probabilities(golden: Golden) -> None:
    logits = golden.run(pool=1)["logits"]
    wanted = golden.io["fwd.sem_seg_s2"]
    config = golden.meta["config"]
    resized = F.interpolate(logits.sigmoid(), config["out_hw"], mode="bilinear", align_corners=False)
    close(resized[0, :, ::2, ::2], wanted, 1e-5)


def test_training_loss_and_gradients(golden: Golden) -> None:
    """In 64 bit, so that the only rounding is that of the golden gradients: up to 1.4e-4 of their largest value."""
    model, io = golden.model.double(), golden.io
    pixels = torch.cat([golden.pixels, golden.pixels.flip(-1)]).double()
    target = repeat(io["train.labels_12x12"].long(), "b h w -> b (h y) (w x)", y=32, x=32)
    for level in model.refine.levels:
        level.category.pool_test = 1
    model.train().zero_grad()
    text = model.encode_text(golden.ids)[:, None]
    loss = segmentation_loss(model(pixels, text), target, model.config)["total"]
    loss.backward()
    assert loss.item() == pytest.approx(golden.meta["train.loss"], rel=1e-5)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
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


def test_conversion_refuses_what_does_not_fit(golden: Golden) -> None:
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
            official[name] = torch.empty([int(number) for number in shape.strip("(),").split(",") if number.strip()])
            trained += official[name].numel() * (mark == ["trainable"])
        ours = from_catseg(official, model.state_dict())
    assert set(ours) == set(model.state_dict())
    width = model.backbone.vision_width
    # the last image block's queries, which nothing reads, are not trained here
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained - width * width
