"""How much labels flicker in a film, and what `--smooth` does about it.

    python benchmarks/video_flicker.py

The film is a camera that moves over a drawn scene, two pixels a frame, with noise of its own in
each frame. Flicker is the share of a scene's points whose label changes from one frame to the next;
their true label never does.
"""

import numpy as np

import disa
from disa.data.drawn import DrawnDataset
from disa.inference.request import parse_query
from disa.inference.video import Smoothing
from disa.picturebook import NOUNS

SCENES = 8
FRAMES = 24
SCENE, VIEW, STEP = 384, 288, 2  # pixels
NOISE = 8.0  # grey levels, standard deviation


def main() -> None:
    """Print flicker and mIoU for several shares of the frames before."""
    segmenter = disa.load("mini", "cpu")
    dataset = DrawnDataset("val", SCENES, SCENE)
    query = parse_query(list(NOUNS), scores=True)
    for share in (0.0, 0.3, 0.5, 0.7, 0.9):
        changed = []
        counts = np.zeros((len(NOUNS), len(NOUNS)), np.int64)
        for index in range(SCENES):
            scene = dataset.scene(index)
            noise = np.random.default_rng(index)
            smoothing = Smoothing(share, query)
            before = None
            for frame in range(FRAMES):
                top = frame * STEP
                window = slice(top, top + VIEW)
                pixels = scene.image[window, window] + noise.normal(0, NOISE, (VIEW, VIEW, 3))
                shown = pixels.clip(0, 255).astype(np.uint8)
                labels = smoothing(segmenter(shown, smoothing.query)).labels
                np.add.at(counts, (scene.labels[window, window], labels), 1)
                if before is not None:
                    # The same points of the scene, in both frames.
                    changed.append((labels[:-STEP, :-STEP] != before[STEP:, STEP:]).mean())
                before = labels
        right = np.diag(counts)
        either = counts.sum(0) + counts.sum(1) - right
        miou = (right[counts.sum(1) > 0] / either[counts.sum(1) > 0]).mean()
        print(f"--smooth {share}: flicker {np.mean(changed):.2%}, mIoU {miou:.1%}")


if __name__ == "__main__":
    main()
