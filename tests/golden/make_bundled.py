"""Write bundled_labels.png, what the bundled model predicts for test scene 3.

Run `python tests/golden/make_bundled.py` after the bundled weights have changed, and look at the
picture.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import disa
from disa.picturebook import NOUNS, TEST_SEED, render

labels = disa.load("mini", "cpu")(render(TEST_SEED, 3).image, list(NOUNS)).labels
Image.fromarray(labels.astype(np.uint8)).save(Path(__file__).parent / "bundled_labels.png")
