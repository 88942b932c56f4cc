"""What a gate keeps and costs: recall of the labels that are there, and mIoU, by its width.

    python benchmarks/gate_curve.py --model mini --scenes 200

The vocabulary is picturebook's nouns and those names of A-847 that no scene shows. Three scores
choose the labels of a picture: the cosine of the best token (what `gate` does), the matched logit,
and the sum of the two, each scaled to a deviation of 1 over the labels.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from disa.data.drawn import DrawnDataset
from disa.data.vocabulary import load_vocabulary
from disa.evaluation.score import Scores
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter, load
from disa.picturebook import NOUNS, SYNONYMS
from disa.running.terminal import counted, say

WIDTHS = (8, 16, 32, 64, 128, 256)
Score = Callable[[Float[Tensor, " t"], Float[Tensor, " t"]], Float[Tensor, " t"]]
SCORES: dict[str, Score] = {
    "best token": lambda presence, matched: presence,
    "matched": lambda presence, matched: matched,
    "sum": lambda presence, matched: presence / presence.std() + matched / matched.std(),
}


def main() -> None:
    """Print the curve."""
    parser = argparse.ArgumentParser(description="Recall and mIoU by the width of the gate.")
    parser.add_argument("--model", default="mini", help="a model with the SDM")
    parser.add_argument("--scenes", type=int, default=200, help="test scenes of picturebook")
    options = parser.parse_args()

    segmenter = load(options.model, "cpu")
    words = (*NOUNS, *absent_names())
    scenes = DrawnDataset("val", options.scenes, segmenter.model.config.backbone_image_size)
    table = Table("labels kept", *(f"recall, {name}" for name in SCORES), "mIoU, best token")
    table.title = f"{len(words)} labels, {options.scenes} scenes"
    recalls = {name: recall(segmenter, scenes, words, score) for name, score in SCORES.items()}
    for width in (*WIDTHS, None):
        kept = [f"{recalls[name][width or len(words)]:.1%}" for name in SCORES]
        table.add_row(str(width or "all"), *kept, f"{miou(segmenter, scenes, words, width):.1f}")
    say(table)


def absent_names() -> list[str]:
    """Return the names of A-847 that are no noun of picturebook, nor a synonym of one."""
    known = {*NOUNS, *(word for words in SYNONYMS.values() for word in words)}
    return [name for name in load_vocabulary("a847").labels(False) if name not in known]


def recall(
    segmenter: Segmenter, scenes: DrawnDataset, words: tuple[str, ...], score: Score
) -> list[float]:
    """Return the share of the labels that are there among the first k, at place k."""
    text = segmenter.text(words)
    found = torch.zeros(len(words) + 1)
    total = 0
    with counted("ranking") as report, torch.inference_mode():
        for index in range(len(scenes.ids)):
            report(index, len(scenes.ids))
            look = segmenter.open(scenes.image(index)).looks[0]
            presence = segmenter.model.presence(look, text)[0]
            matched = segmenter.model.answer(look, text).matched
            if matched is None:
                sys.exit("error: a model without the SDM has no match")
            order = score(presence, matched[0]).argsort(descending=True)
            present = torch.from_numpy(np.unique(scenes.labels(index)).astype(np.int64))
            places = (order[:, None] == present[None]).float().argmax(0)
            for place in places.tolist():
                found[place + 1 :] += 1
            total += len(present)
    shares: list[float] = (found / total).tolist()
    return shares


def miou(
    segmenter: Segmenter, scenes: DrawnDataset, words: tuple[str, ...], gate: int | None
) -> float:
    """Return the mean IoU of picturebook's nouns; pixels of absent names count as missed."""
    text = segmenter.text(words)
    scores = Scores(len(NOUNS) + 1, scenes.ignored)  # the last one: any absent name
    with counted(f"gate {gate or 'open'}") as report:
        for index, name in enumerate(scenes.ids):
            report(index, len(scenes.ids))
            labels = segmenter.best_labels(scenes.image(index), text, Protocol(), gate)
            labels = labels.clamp(max=len(NOUNS))
            target = torch.from_numpy(scenes.labels(index).astype(np.int32))
            scores.add(name, labels, target)
    return 100 * float(scores.confusion.iou.nanmean())


if __name__ == "__main__":
    main()
