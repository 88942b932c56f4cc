"""Compute a golden set with more labels than the head takes, by the baseline's published code.

`python tests/golden/make_many_labels.py CHECKOUT` writes tests/golden/catseg/many_labels. CHECKOUT
holds the published code (cvlab-kaist/CAT-Seg, commit 6d3a188), whose CLIP and aggregator run as
they are; it needs timm. The network and the picture are those of the set `pruned`,
but the head takes 256 labels, its published number, of the 270 that are asked for.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from make_catseg import TARGET, thin
from safetensors.torch import load_file, save_file
from torch import Tensor

SOURCE = TARGET / "pruned"
LABELS, KEPT = 270, 256
SHOWN = 6  # of the kept labels, whose maps are stored
OF_KEPT = ("fwd.agg.layer0.out", "fwd.dec.decoder1")


def main(checkout: Path) -> None:
    """Write the set."""
    sys.path.insert(0, str(checkout / "cat_seg"))
    facts = json.loads((SOURCE / "meta.json").read_text())["config"] | {"pad_len": KEPT}
    weights = load_file(SOURCE / "weights.safetensors")
    state = {name: value.float() for name, value in weights.items()}
    given = load_file(SOURCE / "io.safetensors")
    tokens = make_labels(given["in.tokens"])

    with torch.inference_mode():
        stages = compute(state, facts, given["in.image"], tokens)
    positions = torch.linspace(0, KEPT - 1, SHOWN).long()
    shown = stages["fwd.agg.keep"].nonzero().flatten()[positions]
    stages["fwd.logits_s2"] = stages.pop("fwd.logits")[..., ::2, ::2]
    for name in OF_KEPT:
        stages[name] = stages[name][positions]

    target = TARGET / "many_labels"
    target.mkdir(exist_ok=True)
    inputs = {"in.image": given["in.image"], "in.tokens": tokens.int()}
    stored = dict(thin(name, value.contiguous()) for name, value in stages.items())
    save_file(inputs | stored, target / "io.safetensors")
    shutil.copyfile(SOURCE / "weights.safetensors", target / "weights.safetensors")
    meta = {"config": facts | {"set": "many labels"}, "fwd.class_ids": shown.tolist()}
    (target / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def make_labels(tokens: Tensor) -> Tensor:
    """Return token ids of `LABELS` different prompts: the first one's, with other words in it."""
    generator = torch.Generator().manual_seed(0)
    words = tokens[:, 1:].unique()
    words = words[(words > 0) & (words < tokens.max())]
    triples = torch.cartesian_prod(words, words, words).long()
    prompts = tokens[:1].long().repeat(LABELS, 1)
    prompts[:, 5:8] = triples[torch.randperm(len(triples), generator=generator)[:LABELS]]
    return prompts


def compute(
    state: dict[str, Tensor], facts: dict[str, Any], image: Tensor, tokens: Tensor
) -> dict[str, Tensor]:
    """Return the stages of `CATSeg.forward`, whose lines these are, without detectron2's classes.

    The maps of `OF_KEPT` have the kept labels only, in the order of their ids.
    """
    clip = build_clip(state, facts)
    aggregator = build_aggregator(state, facts)
    blocks = clip.visual.transformer.resblocks
    guidance: list[Tensor] = []
    for index in facts["guidance_blocks"]:
        blocks[index].register_forward_hook(lambda _module, _inputs, out: guidance.append(out))

    mean, std = (torch.tensor(facts[f"clip_pixel_{name}"]) for name in ("mean", "std"))
    pixels = (image - mean[:, None, None]) / std[:, None, None]
    features = clip.encode_image(pixels[None], dense=True)
    first, second = (rearrange(out[1:], "(H W) B C -> B C H W", H=24) for out in guidance)
    res3 = rearrange(features[:, 1:], "B (H W) C -> B C H W", H=24)
    res4 = F.conv_transpose2d(first, state["upsample1.weight"], state["upsample1.bias"], stride=2)
    res5 = F.conv_transpose2d(second, state["upsample2.weight"], state["upsample2.bias"], stride=4)
    text = clip.encode_text(tokens)
    text = text / text.norm(dim=-1, keepdim=True)

    seen: dict[str, Tensor] = {}
    for name, module in zip(OF_KEPT, (aggregator.layers[0], aggregator.decoder1), strict=True):
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    logits = aggregator(res3, text[None, :, None], [res3, res4, res5])[0]

    scores = aggregator.correlation(res3, text[None, :, None])[0, 0].amax((1, 2))
    # the published code keeps the labels in no order, the set in that of their ids
    order = scores.topk(KEPT, sorted=False).indices
    positions = order.argsort()
    edge = scores.sort(descending=True).values[KEPT - 1 : KEPT + 1]
    print(f"the last label that is kept is ahead of the next by {float(edge[0] - edge[1]):.1e}")
    keep = torch.zeros(LABELS, dtype=torch.uint8)
    keep[order] = 1
    seen["fwd.agg.layer0.out"] = rearrange(seen["fwd.agg.layer0.out"], "1 C T H W -> T C H W")
    stages = {
        "fwd.text.embeds_normalized": text,
        "fwd.agg.scores_max": scores,
        "fwd.agg.keep": keep,
        "fwd.logits": logits,
    }
    return stages | {name: value[positions] for name, value in seen.items()}


def build_clip(state: dict[str, Tensor], facts: dict[str, Any]) -> torch.nn.Module:
    """Return the published CLIP with the set's weights; its numbers of heads are the set's own."""
    from third_party.model_vpt import CLIP

    size = facts["clip"]
    clip = CLIP(
        embed_dim=size["embed"],
        image_resolution=size["image"],
        vision_layers=size["vl"],
        vision_width=64 * size["vheads"],
        vision_patch_size=size["patch"],
        context_length=size["context"],
        vocab_size=size["vocab"],
        transformer_width=size["tw"],
        transformer_heads=size["theads"],
        transformer_layers=size["tl"],
    )
    clip.visual = type(clip.visual)(
        size["image"], size["patch"], size["vw"], size["vl"], size["vheads"], size["embed"], 0, 0
    )
    clip.load_state_dict(part(state, "sem_seg_head.predictor.clip_model."))
    return clip.eval()


def build_aggregator(state: dict[str, Tensor], facts: dict[str, Any]) -> torch.nn.Module:
    """Return the published aggregator with the set's weights and the published padding."""
    from modeling.transformer.model import Aggregator

    head = facts["head"]
    aggregator = Aggregator(
        text_guidance_dim=facts["clip"]["embed"],
        text_guidance_proj_dim=head["tg"],
        appearance_guidance_dim=facts["clip"]["embed"],
        appearance_guidance_proj_dim=head["ag"],
        decoder_dims=head["dec"],
        decoder_guidance_dims=head["dg"],
        decoder_guidance_proj_dims=head["dgp"],
        num_layers=head["layers"],
        nheads=head["nheads"],
        hidden_dim=head["hidden"],
        pooling_size=(1, 1),
        feature_resolution=facts["feature_resolution"],
        window_size=facts["window"],
        attention_type=facts["attention_type"],
        pad_len=KEPT,
    )
    aggregator.load_state_dict(part(state, "sem_seg_head.predictor.transformer."))
    return aggregator.eval()


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors below a prefix, without it."""
    return {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
