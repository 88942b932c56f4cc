"""What Grad-CAM costs in the SDM: in closed form, by one backward pass, and by one for each label.

`python benchmarks/saliency_time.py` prints a line for each size: seconds an image of the saliency
module, a median, and how far the results are apart. `attention` is the module without any
gradient: the least it can cost.
"""

import json
import time
from collections.abc import Callable
from statistics import median

import torch
from einops import reduce
from torch import Tensor
from torch.nn import functional as F

from disa.config import ModelConfig
from disa.model.saliency import CrossAttention, SaliencyModule
from disa.recipes import mini, vit_b16, vit_l14

SIZES = {  # recipe, categories, tokens a side, width
    "mini": (mini(saliency_itm_head="compare"), 34, 12, 128),
    "vit-b-16": (vit_b16(), 171, 24, 512),
    "vit-l-14": (vit_l14(), 171, 24, 768),
}
REPEATS = 7


def by_backward(module: SaliencyModule, tokens: Tensor, text: Tensor, each: bool) -> Tensor:
    """Return the saliency `b t n` by autograd, as other implementations of Grad-CAM compute it."""
    own = F.normalize(text, dim=-1)
    x = own.expand(tokens.shape[0], -1, -1)
    layers = [layer for layer in module.layers if isinstance(layer, CrossAttention)]
    with torch.no_grad():
        heads = module.guide(tokens)
        for layer, (key, value) in zip(layers[:-1], heads[:-1], strict=True):
            x = layer.carry(x, layer.attend(x, key), value).out
        key, values = heads[-1]
        attention = layers[-1].attend(x, key)
    attention.requires_grad_(True)
    with torch.enable_grad():
        matched = module.head(layers[-1].carry(x, attention, values).out, own)
    if each:
        gradient = torch.zeros_like(attention)
        for category in range(len(text)):
            gradient += torch.autograd.grad(
                matched[:, category].sum(), attention, retain_graph=True
            )[0]
    else:
        (gradient,) = torch.autograd.grad(matched.sum(), attention)
    return reduce(attention.detach() * gradient.relu(), "b t a n -> b t n", "mean")


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median time of a call, the first one not counted."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return median(times)


def measure(
    name: str, config: ModelConfig, categories: int, side: int, width: int
) -> dict[str, object]:
    """Return one size's times and the largest relative difference between the two ways."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, width, side, side, generator=generator)
    text = torch.randn(categories, width, generator=generator)
    module = SaliencyModule(config, width).requires_grad_(False).eval()
    plain = (
        SaliencyModule(config.replace(saliency_source="attention"), width)
        .requires_grad_(False)
        .eval()
    )
    plain.load_state_dict(module.state_dict())
    with torch.inference_mode():
        closed = seconds(lambda: module(module.guide(tokens), text))
        attention = seconds(lambda: plain(tokens, text))
        expected = module(module.guide(tokens), text).saliency.clone()
    found = by_backward(module, tokens, text, each=False)
    apart = float((found - expected).abs().max() / expected.abs().max())
    return {
        "size": name,
        "categories": categories,
        "tokens": side * side,
        "attention": round(attention, 5),
        "closed form": round(closed, 5),
        "one backward": round(seconds(lambda: by_backward(module, tokens, text, each=False)), 5),
        "a backward for each": round(
            seconds(lambda: by_backward(module, tokens, text, each=True), repeats=1), 5
        ),
        "largest difference": f"{apart:.1e}",
    }


def main() -> None:
    """Print one JSON line for each size."""
    torch.set_num_threads(1)
    for name, (config, categories, side, width) in SIZES.items():
        print(
            json.dumps(
                measure(name, config, categories, side, width) | {"torch": str(torch.__version__)}
            )
        )


if __name__ == "__main__":
    main()
