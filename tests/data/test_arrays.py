"""What numbers in arrays and tensors mean."""

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused

from disa.data.images import Reading, parse_reading, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def test_bands_of_arrays_and_tensors_are_chosen():
    stacked = np.dstack([PIXELS, PIXELS[..., :2]])
    reading = parse_reading(bands="3,2,5")
    seen = stacked[..., [2, 1, 4]]
    tensor = torch.from_numpy(stacked)
    for source in (stacked, tensor, tensor.movedim(-1, 0)):
        np.testing.assert_array_equal(read_image(source, reading), seen)
    grey = read_image(stacked[..., 0], Reading(bands=(1,)))
    np.testing.assert_array_equal(grey[..., 2], stacked[..., 0])

    with refused("the array", "bands first"):
        read_image(np.moveaxis(stacked, -1, 0), reading)
    with refused("the array", "no band 6"):
        read_image(stacked, Reading(bands=(6,)))
    with refused("the array", "bands="):
        read_image(stacked)
    with refused("the PIL image", "path"):
        read_image(Image.fromarray(PIXELS), reading)


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f8", ">f4"])
def test_the_order_of_bytes_makes_no_difference(dtype: str):
    scale = 257 if dtype == ">u2" else 1
    other = (PIXELS.astype(int) * scale).astype(dtype)
    np.testing.assert_array_equal(read_image(other), PIXELS)


@pytest.mark.parametrize("error", [1e-7, -1e-7, 1e-3, -1e-3])
def test_rounding_errors_do_not_change_what_a_float_means(error: float):
    image = PIXELS / 255
    image[0, 0, 0] = error if error < 0 else 1 + error
    expected = PIXELS.copy()
    expected[0, 0, 0] = 0 if error < 0 else 255
    np.testing.assert_array_equal(read_image(image), expected)


@pytest.mark.parametrize("value", [1.2, 7.5, 200.0, -0.5])
def test_a_few_values_out_of_range_refuse_a_picture_of_floats(value: float):
    image = PIXELS / 255
    image[0, 0, 0] = value
    with refused("the array", f"{value:g}"):
        read_image(image)
