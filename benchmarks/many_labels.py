"""Time and memory of a picture by the number of labels, with random weights and embeddings.

Embeddings are drawn, not computed: ten thousand labels would take CLIP's text encoder longer than
all the rest. Seconds of the processor are counted, in multiples of what CLIP's image encoder takes
for the same views in the same round.

python benchmarks/many_labels.py vit-b-16 --labels 20 150 847 10000 --threads 1
python benchmarks/many_labels.py vit-b-16 --labels 150 847 10000 --gate 32
python benchmarks/many_labels.py vit-b-16 --labels 3 --session --protocol whole

With `--session`, a picture that was opened and asked before is asked again, in shares of a call.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import Tokenizer, models
from torch import Tensor

from disa.evaluation.bench import bench_picture, peak_memory
from disa.inference.passes import BATCH
from disa.inference.protocol import Protocol
from disa.inference.request import Query, parse_query
from disa.inference.segmenter import Segmenter
from disa.inference.windows import views
from disa.model.disa import Disa
from disa.recipes import RECIPES
from disa.running.files import write_json
from disa.running.provenance import code_and_machine
from disa.weights.exported import network_of


def main() -> None:
    """Print a JSON line for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=list(RECIPES))
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 150, 847, 10_000])
    parser.add_argument("--gate", type=int)
    parser.add_argument("--session", action="store_true")
    parser.add_argument("--protocol", default="cat-seg")
    parser.add_argument("--picture", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--rounds", type=int, default=1, help="after one that is not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-memory")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    # The tokenizer is never asked.
    model = Disa(RECIPES[asked.recipe]())
    tokenizer = Tokenizer(models.BPE())
    cpu = torch.device("cpu")
    segmenter = DrawnText(model, tokenizer, cpu, max_memory=asked.max_memory)
    rows = []
    for labels in asked.labels:
        rows.append(measure(segmenter, labels, asked))
        print(json.dumps(rows[-1]), flush=True)
    if asked.json is not None:
        settings = {name: value for name, value in vars(asked).items() if name != "json"}
        write_json(asked.json, settings | code_and_machine() | {"rows": rows}, indent=2)


class DrawnText(Segmenter):
    """A segmenter whose embeddings of labels are random directions."""

    def embed(self, query: Query) -> Tensor:
        """Return a direction for each label and prompt."""
        generator = torch.Generator().manual_seed(0)
        width = network_of(self.model).backbone.embedding_width
        prompts = len(self.model.config.backbone_templates)
        text = torch.randn(len(query.labels), prompts, width, generator=generator)
        return torch.nn.functional.normalize(text, dim=-1)


def measure(segmenter: Segmenter, labels: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Return the multiples of CLIP's passes, and the bytes above the loaded model."""
    picture = bench_picture(*asked.picture)
    protocol = Protocol(asked.protocol)
    words = [f"thing number {index}" for index in range(labels)]
    query = parse_query(words, protocol=protocol, gate=asked.gate)
    layout = segmenter.layout(protocol, picture)
    shown = list(views(protocol, picture, layout, BATCH))

    def encode() -> None:
        with torch.inference_mode():
            for part in shown:
                network_of(segmenter.model).backbone(part)

    session = segmenter.open(picture, protocol=protocol) if asked.session else None
    multiples = []
    shares = []
    peaks: list[int] = []
    for _ in range(1 + asked.rounds):
        clip = _seconds(encode)
        with peak_memory(torch.device("cpu")) as bytes_taken:
            call = _seconds(lambda: segmenter(picture, query))
            peak = bytes_taken()
        peaks += [] if peak is None else [peak]
        multiples.append(call / clip)
        if session is not None:
            shares.append(_seconds(lambda: session(query)) / call)
    row: dict[str, Any] = {
        "labels": labels,
        "clip_seconds": round(clip, 2),
        "multiple": round(median(multiples[1:] or multiples), 2),
        "peak_mb": round(max(peaks) / 1e6) if peaks else None,
    }
    if session is not None:
        row["asked_again"] = round(median(shares[1:] or shares), 3)
    return row


def _seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
