"""Embeddings on disk: found again by the same model and words, and by no others."""

from pathlib import Path

import pytest
import torch

import disa
from disa.inference import text
from disa.inference.segmenter import Segmenter
from disa.inference.text_store import TextStore

WORDS = [f"house {number}" for number in range(text.LEAST)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISA_CACHE", str(tmp_path))
    return tmp_path / "text"


def counted(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the segmenter count the texts that it encodes."""
    asked: list[int] = []
    encode = segmenter.model.encode_text
    monkeypatch.setattr(
        segmenter.model, "encode_text", lambda ids: asked.append(len(ids)) or encode(ids)
    )
    return asked


def test_a_second_process_embeds_nothing(model_folder: Path, folder: Path, monkeypatch):
    first = disa.load(model_folder, "cpu").text(WORDS)
    again = disa.load(model_folder, "cpu")
    asked = counted(again, monkeypatch)
    assert torch.equal(again.text(WORDS), first)
    assert not asked

    # Other words, other prompts, other weights: other embeddings.
    again.text([*WORDS[1:], "sea"])
    assert sum(asked) == 1  # all but one were known in memory
    again.text(WORDS, ["my {}"])
    assert sum(asked) == 1 + len(WORDS)
    with torch.no_grad():
        again.model.backbone.clip.text_projection.weight.mul_(-1)
    again.text.clear()
    torch.testing.assert_close(again.text(WORDS), -first)


def test_few_words_leave_no_file(model_folder: Path, folder: Path):
    disa.load(model_folder, "cpu").text(WORDS[:-1])
    assert not folder.exists()


def test_a_damaged_file_is_replaced(model_folder: Path, folder: Path):
    first = disa.load(model_folder, "cpu").text(WORDS)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-8]):
        file.write_bytes(damaged)
        assert torch.equal(disa.load(model_folder, "cpu").text(WORDS), first)
        assert file.read_bytes() == whole


def test_a_disk_that_refuses_is_no_error(model_folder: Path, tmp_path: Path):
    segmenter = disa.load(model_folder, "cpu")
    (tmp_path / "file").write_bytes(b"")
    segmenter.text.store = TextStore(
        tmp_path / "file" / "text", segmenter.model, segmenter.text.tokenizer
    )
    assert segmenter.text(WORDS).isfinite().all()
