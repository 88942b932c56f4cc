"""Write the project's own golden file: what `mini` computes and how it trains under a fixed seed.

Run `python tests/golden/make.py` only after a change that is meant to change numbers, and say so in
the commit. Any other change proves itself by leaving the file as it is.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from disa.model.disa import Disa
from disa.model.losses import IGNORED, segmentation_loss
from disa.recipes import RECIPES

FILE = Path(__file__).with_name("mini_logits.safetensors")
STEPS = 5


def compute(recipe: str) -> dict[str, Tensor]:
    """Return some logits, the SDM's outputs where there are any, and the first losses."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Disa(RECIPES[recipe](backbone_finetune="full"))
    with torch.no_grad():  # own numbers, whatever the initialisation of a library's version
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            elif parameter.dim() == 1 and not name.endswith("log_sharpness"):
                parameter.copy_(name.endswith("weight") + 0.1 * noise)
    pixels = torch.rand(2, 3, 64, 96, generator=generator) * 255
    words = model.backbone.clip.text_model.config
    ids = torch.randint(2, words.vocab_size - 2, (4, 6), generator=generator)
    ids[:, -1] = words.eos_token_id
    target = torch.randint(0, 4, (2, 8, 12), generator=generator)
    target = F.interpolate(target[:, None].float(), (64, 96))[:, 0].long()
    target[:, :8] = IGNORED
    with torch.no_grad():
        prediction = model.eval()(pixels, model.encode_text(ids)[:, None])
    golden = {
        "logits": prediction.logits[..., ::8, ::8].contiguous(),
        "logits.mean": prediction.logits.mean((2, 3)),
    }
    if prediction.saliency is not None and prediction.matched is not None:
        golden |= {
            "matched": prediction.matched,
            "saliency": prediction.saliency[..., ::4, ::4].contiguous(),
        }
    return {f"{recipe}.{name}": value for name, value in golden.items()} | {
        f"{recipe}.losses": train(model, pixels, ids, target)
    }


def train(model: Disa, pixels: Tensor, ids: Tensor, target: Tensor) -> Tensor:
    """Return the losses of the first steps."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1e-3)
    model.train()
    losses = []
    for _ in range(STEPS):
        loss = segmentation_loss(
            model(pixels, model.encode_text(ids)[:, None]), target, model.config
        )["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden = compute("mini") | compute("mini-baseline")
    save_file(golden, FILE)
    sys.stdout.write(f"{FILE}: {FILE.stat().st_size} bytes\n")
