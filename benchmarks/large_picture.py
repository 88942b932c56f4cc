"""Time and memory of sliding windows over a large picture, with random weights at true size.

`python benchmarks/large_picture.py --recipe vit-b-16 --width 6000 --height 4000 --labels 5`
"""

import argparse
import json
import resource
import sys
import time

import numpy as np
import torch
from tokenizers import Tokenizer, models

from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter
from disa.model.disa import Disa
from disa.recipes import RECIPES


def main() -> None:
    """Print a JSON line: windows, seconds, and the process's largest memory in GB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="vit-b-16", choices=list(RECIPES))
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--labels", type=int, default=5)
    parser.add_argument("--overlap", type=float, default=1 / 3)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = Disa(RECIPES[asked.recipe]())
    segmenter = Segmenter(
        model, Tokenizer(models.BPE()), torch.device(asked.device)
    )  # labels come as embeddings
    prompts, width = len(model.config.backbone_templates), model.backbone.embedding_width
    text = torch.nn.functional.normalize(torch.randn(asked.labels, prompts, width), dim=-1).to(
        asked.device
    )
    picture = np.random.default_rng(0).integers(
        0, 256, (asked.height, asked.width, 3), dtype=np.uint8
    )
    protocol = Protocol("windows", overlap=asked.overlap)
    layout = protocol.layout(
        asked.height, asked.width, model.config.backbone_image_size, model.backbone.patch_size
    )
    begun = time.monotonic()
    labels = segmenter.best_labels(picture, text, protocol)
    seconds = time.monotonic() - begun
    assert labels.shape == (asked.height, asked.width)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e9 if sys.platform == "darwin" else 1e6
    )
    numbers = {
        "windows": layout.views,
        "seconds": round(seconds, 1),
        "peak_memory_gb": round(peak, 2),
    }
    print(json.dumps(vars(asked) | numbers | {"torch": torch.__version__}))


if __name__ == "__main__":
    main()
