"""Train what tells things from stuff anew, while all else of a model stays as it is.

    python experiments/foreground/train_readers.py runs/mini/model runs/mini-things

It learns from the training scenes of picturebook, without the pixels of unseen labels. What CLIP
makes of the scenes is computed once. The readers are trained through the model's way to the
pixels, as they are used: trained on the tokens' grid alone they are worse by four points of IoU.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import disa
from disa.config import IGNORED
from disa.data.drawn import DrawnDataset
from disa.model.backbone import Visual
from disa.model.disa import Disa
from disa.model.losses import things_loss
from disa.model.things import Things
from disa.picturebook import NOUNS, THINGS, UNSEEN

BATCH = 32


def main() -> None:
    """Write the model with new readers."""
    parser = argparse.ArgumentParser(description="Train the readers of things anew.")
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--lr", type=float, default=3e-3)
    options = parser.parse_args()

    torch.manual_seed(0)
    segmenter = disa.load(options.model, "cpu")
    model = segmenter.model
    assert isinstance(model, Disa)
    backbone = model.backbone
    things = model.things = Things(backbone.embedding_width, backbone.attention_maps)

    is_thing = torch.tensor([noun in THINGS for noun in NOUNS])
    scenes = []
    for scene in looked_at(model, options.scenes):
        scenes.append(scene)
        if len(scenes) % 500 == 0:
            print(f"{len(scenes)} of {options.scenes} scenes")

    no_guidance = torch.empty(BATCH, 0, 1, 1)  # the readers have no use for it
    optimizer = torch.optim.AdamW(things.parameters(), lr=options.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, options.steps)
    for step in range(1, options.steps + 1):
        chosen = [scenes[int(index)] for index in torch.randint(options.scenes, (BATCH,))]
        tokens, attention, mix, labels = (torch.cat(each) for each in zip(*chosen, strict=True))
        seen = Visual(tokens.float(), no_guidance, no_guidance, attention.float())
        found = model.decode.grow(things(seen), mix.float())
        loss = things_loss(found, labels, is_thing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    segmenter.save_pretrained(options.out)


def looked_at(model: Disa, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield what the readers read of each scene, the way to its pixels, and its true labels.

    All but the labels in 16 bit: the way takes half a megabyte.
    """
    dataset = DrawnDataset("train", count)
    unseen = torch.tensor([noun in UNSEEN for noun in NOUNS])
    for index in range(count):
        scene = dataset.scene(index)
        pixels = torch.from_numpy(scene.image.copy()).permute(2, 0, 1)[None].float()
        labels = torch.from_numpy(scene.labels.copy()).long()[None]
        with torch.no_grad():
            visual = model.backbone(pixels)
            image = model.backbone.normalise(pixels)
            mix = model.decode.guide(visual.first, visual.second, image).mix
        assert visual.attention is not None
        assert mix is not None
        true = labels.masked_fill(unseen[labels], IGNORED)
        yield visual.tokens.half(), visual.attention.half(), mix.half(), true


if __name__ == "__main__":
    main()
