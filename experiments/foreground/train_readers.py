"""Train what tells things from stuff anew, while all else of a model stays as it is.

    python experiments/foreground/train_readers.py runs/mini/model runs/mini-things

It learns from the training scenes of picturebook, without the pixels of unseen labels. What CLIP
makes of the scenes is computed once, so a thousand steps take seconds.
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

import disa
from disa.config import IGNORED
from disa.data.drawn import DrawnDataset
from disa.model.disa import Disa
from disa.model.losses import things_loss
from disa.model.things import Things
from disa.picturebook import NOUNS, THINGS, UNSEEN

BATCH = 16


def main() -> None:
    """Write the model with new readers."""
    parser = argparse.ArgumentParser(description="Train the readers of things anew.")
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--lr", type=float, default=3e-3)
    options = parser.parse_args()

    torch.manual_seed(0)
    segmenter = disa.load(options.model, "cpu")
    model = segmenter.model
    assert isinstance(model, Disa)
    backbone = model.backbone
    things = model.things = Things(backbone.embedding_width, backbone.attention_maps)

    # What the readers read, of all scenes, and the true labels.
    dataset = DrawnDataset("train", options.scenes)
    unseen = torch.tensor([noun in UNSEEN for noun in NOUNS])
    is_thing = torch.tensor([noun in THINGS for noun in NOUNS])
    parts = []
    for index in range(options.scenes):
        scene = dataset.scene(index)
        pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)[None].float()
        labels = torch.from_numpy(scene.labels.copy()).long()[None]
        with torch.no_grad():
            parts.append((model.backbone(pixels), labels.masked_fill(unseen[labels], IGNORED)))

    optimizer = torch.optim.AdamW(things.parameters(), lr=options.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, options.steps)
    for step in range(1, options.steps + 1):
        chosen = [parts[int(index)] for index in torch.randint(options.scenes, (BATCH,))]
        visual = chosen[0][0]._replace(
            tokens=torch.cat([each.tokens for each, _ in chosen]),
            attention=torch.cat([each.attention for each, _ in chosen]),
        )
        labels = torch.cat([each for _, each in chosen])
        found = F.interpolate(things(visual)[:, None], labels.shape[1:], mode="bilinear")[:, 0]
        loss = things_loss(found, labels, is_thing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    segmenter.save_pretrained(options.out)


if __name__ == "__main__":
    main()
