"""A budget of memory: it changes no answer, and what it cannot hold is refused."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import invoke
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import disa
from disa.errors import DisaError
from disa.inference.memory import parse_memory
from disa.inference.protocol import Protocol
from disa.inference.segmenter import Segmenter
from disa.model.few import MAX_MEMORY, a_few_at_a_time, at_most

WORDS = ("House", "sea", "grass", "boat", "zebra", "sky", "sand")
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@cache
def small(folder: Path, most: int) -> Segmenter:
    segmenter = disa.load(folder, "cpu")
    segmenter.model.config = segmenter.model.config.replace(max_categories=most)
    return segmenter


def least_budget(segmenter: Segmenter, labels: int, protocol: str) -> int:
    """The smallest budget, to a quarter, that such a call is not refused with."""
    segmenter.max_memory = 300_000
    while True:
        try:
            segmenter(PIXELS, WORDS[:labels], protocol=protocol)
        except DisaError as error:
            assert "max_memory" in str(error)
            segmenter.max_memory = segmenter.max_memory * 5 // 4
        else:
            return segmenter.max_memory


@settings(max_examples=12)
@given(
    labels=st.integers(1, len(WORDS)),
    protocol=st.sampled_from(["whole", "windows", "cat-seg"]),
    model=st.sampled_from(["model_folder", "baseline_folder", "paper_folder"]),
    most=st.sampled_from([2, 256]),
    factor=st.floats(1, 20),
)
def test_a_budget_changes_no_answer(
    request: pytest.FixtureRequest,
    labels: int,
    protocol: str,
    model: str,
    most: int,
    factor: float,
) -> None:
    segmenter = small(request.getfixturevalue(model), most)
    words = WORDS[:labels]
    segmenter.max_memory = MAX_MEMORY
    usual = segmenter(PIXELS, words, protocol=protocol, scores=True)
    segmenter.max_memory = round(factor * least_budget(segmenter, labels, protocol))
    tight = segmenter(PIXELS, words, protocol=protocol, scores=True)

    np.testing.assert_allclose(tight.scores, usual.scores, atol=1e-5)
    two_best = np.sort(usual.scores, 0)[-2:]
    is_clear = two_best[-1] - two_best[0] > 1e-4 if labels > 1 else np.array(True)
    assert (tight.labels == usual.labels)[is_clear].all()
    if usual.matched is not None:
        assert tight.matched == pytest.approx(usual.matched, abs=1e-5)
        for word in words:
            np.testing.assert_allclose(tight.saliency[word], usual.saliency[word], atol=1e-4)


def test_a_list_of_pictures_and_an_open_picture_follow_the_budget(model_folder: Path) -> None:
    segmenter = disa.load(model_folder, "cpu")
    pictures = [PIXELS, PIXELS[::-1], PIXELS[:, ::-1]]
    usual = segmenter(pictures, WORDS, scores=True)
    needed = least_budget(segmenter, len(WORDS), "whole")
    tight = disa.load(model_folder, "cpu", max_memory=needed)
    seen: list[int] = []
    tight.model.backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    for one, other in zip(tight(pictures, WORDS, scores=True), usual, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert seen == [1, 1, 1]
    opened = tight.open(PIXELS)(WORDS, scores=True)
    np.testing.assert_allclose(opened.scores, usual[0].scores, atol=1e-5)


def test_what_the_budget_does_not_hold_is_refused(model_folder: Path) -> None:
    segmenter = disa.load(model_folder, "cpu", max_memory="100 kB")
    for ask in (
        lambda: segmenter(PIXELS, WORDS),
        lambda: segmenter.open(PIXELS)(WORDS),
        lambda: segmenter.best_labels(PIXELS, segmenter.text(WORDS), Protocol("windows")),
    ):
        with pytest.raises(DisaError, match=r"7 labels in \d+ views? take .* max_memory is 100 kB"):
            ask()


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("500MB", 500_000_000),
        ("500 mb", 500_000_000),
        ("1.5GB", 1_500_000_000),
        ("2g", 2_000_000_000),
        ("64kB", 64_000),
        ("1000", 1000),
        (1000, 1000),
        (None, MAX_MEMORY),
    ],
)
def test_amounts_of_memory(text: int | str | None, amount: int) -> None:
    assert parse_memory(text) == amount


@pytest.mark.parametrize(
    "text", ["", "much", "-1", "0", "500 MBB", "1 MiB", "1e9", 0, -5, True, "inf"]
)
def test_other_amounts_are_refused(text: int | str) -> None:
    with pytest.raises(DisaError, match="max_memory"):
        parse_memory(text)


@torch.no_grad()
@pytest.mark.parametrize("budget", [1, 16_000, 10**9])
def test_parts_follow_the_budget_and_take_the_place_of_the_values(budget: int) -> None:
    values = torch.rand(1, 12, 10)
    expected = 2 * values
    seen = []

    def double(part: torch.Tensor) -> torch.Tensor:
        seen.append(part.shape[1])
        return 2 * part

    with at_most(budget):
        result = a_few_at_a_time(double, values, widest=50, overwrite=True)
    torch.testing.assert_close(result, expected)
    assert seen == {1: [1] * 12, 16_000: [5, 5, 2], 10**9: [12]}[budget]
    assert (result is values) == (len(seen) > 1)


def test_segment_takes_a_budget(model_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(PIXELS).save(picture)
    maps = []
    for memory in ("100MB", "1GB"):
        out = tmp_path / memory
        done = invoke(
            "segment", picture, "-l", "House, sea", "-o", out, "-m", model_folder,
            "--max-memory", memory,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        maps.append((out / "picture_labels.png").read_bytes())
    assert maps[0] == maps[1]

    for memory in ("1kB", "plenty"):
        out = tmp_path / "refused"
        done = invoke(
            "segment", picture, "-l", "House, sea", "-o", out, "-m", model_folder,
            "--max-memory", memory,
        )  # fmt: skip
        assert done.exit_code == 2
        assert "max_memory" in done.output
