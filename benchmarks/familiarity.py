"""How far a model of the drawn world tells its drawings from other pictures.

`python benchmarks/familiarity.py FOLDER [MODEL]` prints quantiles of `familiarity` for drawings of
the test world and for the pictures in FOLDER, and the share below `FAMILIAR` (decision D126).
"""

import argparse
import io

import numpy as np
from PIL import Image

from disa.data.images import Pixels, read_image
from disa.data.picture_paths import expand
from disa.inference.familiar import FAMILIAR, familiarity
from disa.inference.segmenter import load
from disa.picturebook import TEST_SEED, render
from disa.picturebook.scenes import render_card

COUNT = 100
QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


def main() -> None:
    """Print one line for each kind of picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="pictures that are no drawings of picturebook")
    parser.add_argument("model", nargs="?", default="mini")
    given = parser.parse_args()
    segmenter = load(given.model)

    scenes = [render(TEST_SEED, index, 384).image for index in range(COUNT)]
    kinds = {
        "scenes of 96 pixels": [render(TEST_SEED, index, 96).image for index in range(COUNT)],
        "scenes of 384 pixels": scenes,
        "these as JPEG of quality 50": [as_jpeg(scene) for scene in scenes],
        "cards": [render_card(TEST_SEED, index, 192).image for index in range(COUNT)],
        given.folder: [read_image(file) for file in expand([given.folder]).files],
    }
    print(f"{'':30} number  quantiles {QUANTILES}  below {FAMILIAR}")
    for name, pictures in kinds.items():
        sure = np.array([familiarity(segmenter, picture) for picture in pictures])
        quantiles = " ".join(f"{value:.3f}" for value in np.quantile(sure, QUANTILES))
        print(f"{name:30} {len(sure):6}  {quantiles}  {(sure < FAMILIAR).mean():.1%}")


def as_jpeg(pixels: Pixels) -> Pixels:
    """Return a picture as it comes back from a strongly compressed file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file).convert("RGB"))


if __name__ == "__main__":
    main()
