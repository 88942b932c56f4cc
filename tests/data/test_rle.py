from contextlib import suppress

import miniatures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from disa.data.rle import decode_rle, encode_rle, run_lengths

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))
# a disc of radius 10 about (15, 12) in 40 x 30 pixels, as pycocotools 2.0.11 encodes it
DISC = "S49n02M4N0O2N2O0000000000000001N2N102L3Nf9"


@given(MASKS)
def test_both_forms_against_a_naive_encoder(mask: np.ndarray):
    runs = miniatures.run_lengths(mask.astype(int))
    text = miniatures.compressed(runs)
    assert run_lengths(text) == runs
    for counts in (runs, text):
        np.testing.assert_array_equal(decode_rle(counts, mask.shape), mask)


@given(st.lists(st.integers(0, 2**31), max_size=12))
def test_numbers_of_any_length(runs: list[int]):
    assert run_lengths(miniatures.compressed(runs)) == runs


def test_a_mask_that_pycocotools_encoded():
    disc = np.array([[(y - 15) ** 2 + (x - 12) ** 2 < 10**2 for x in range(30)] for y in range(40)])
    np.testing.assert_array_equal(decode_rle(DISC, (40, 30)), disc)


@pytest.mark.parametrize("counts", [[5], [], [91], [-5, 95], "é", "o" * 20, "o"])
def test_damaged_runs_are_refused(counts: str | list):
    with pytest.raises(ValueError):
        decode_rle(counts, (9, 10))


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_is_a_mask_or_refused(text: str):
    with suppress(ValueError):
        assert decode_rle(text, (9, 10)).shape == (9, 10)


@given(MASKS)
def test_pycocotools_writes_what_is_read(mask: np.ndarray):
    masks = pytest.importorskip("pycocotools.mask")
    packed = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = packed["counts"].decode()
    np.testing.assert_array_equal(decode_rle(text, mask.shape), mask)
    again = masks.frPyObjects({"counts": run_lengths(text), "size": mask.shape}, *mask.shape)
    np.testing.assert_array_equal(masks.decode(again), mask)


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 100))
def test_masks_are_written_as_pycocotools_writes_them(height, width, share, seed):
    masks = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random((height, width)) < share
    theirs = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours == {"size": [height, width], "counts": theirs["counts"].decode()}
    np.testing.assert_array_equal(decode_rle(ours["counts"], mask.shape), mask)


def test_a_disc_is_written_as_it_is_read():
    assert encode_rle(decode_rle(DISC, (40, 30)))["counts"] == DISC
