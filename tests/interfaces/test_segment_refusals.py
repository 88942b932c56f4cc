"""What `disa segment` refuses, and what it leaves out while it does the rest."""

from pathlib import Path

import pytest
import torch
from command_line import invoke
from segmenting import LABELS, many

from disa.errors import DisaError
from disa.inference.segmenter import Segmenter


def test_one_bad_picture_is_reported_and_the_others_are_done(
    pictures: Path, tmp_path: Path, segment
):
    (pictures / "p0a.png").write_bytes(b"no picture")
    (pictures / "p0b.jpg").touch()
    result = segment(pictures, pictures / "missing.png", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "3 of 6 pictures segmented" in result.stdout
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    for error, name in zip(errors, ("p0a.png", "p0b.jpg", "missing.png"), strict=True):
        assert name in error
    assert len(list((tmp_path / "out").glob("*.json"))) == 3


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), DisaError("too wide")]
)
def test_a_picture_that_cannot_be_segmented_is_reported_and_the_others_are_done(
    error: Exception, pictures: Path, tmp_path: Path, segment, monkeypatch: pytest.MonkeyPatch
):
    whole = Segmenter.__call__

    def sometimes(self: Segmenter, image, *arguments, **options):
        pictures = image if isinstance(image, list) else [image]
        if any(picture.shape[:2] == (60, 60) for picture in pictures):
            raise error
        return whole(self, image, *arguments, **options)

    monkeypatch.setattr(Segmenter, "__call__", sometimes)
    result = segment(pictures, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "2 of 3 pictures segmented" in result.stdout
    assert result.stderr.startswith(f"error: {pictures / 'p2.png'}: ")
    assert {path.stem for path in (tmp_path / "out").glob("*.json")} == {"p0", "p1"}
    segment(pictures / "p2.png", "--out", tmp_path / "out").fails("p2.png: ")


def test_only_bad_pictures_exit_with_2(pictures: Path, tmp_path: Path, segment):
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("a.png", "b.png"):
        (bad / name).write_bytes(b"no picture")
    result = segment(bad, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "0 of 2 pictures" in result.stdout


def bad_file(folder: Path, content: bytes) -> Path:
    path = folder / "x.png"
    path.write_bytes(content)
    return path


def test_bad_pictures_are_refused(pictures: Path, tmp_path: Path, segment):
    whole = (pictures / "p2.png").read_bytes()
    out = ["--out", tmp_path / "out"]
    segment(tmp_path / "none.png", *out).fails("none.png", "no such file")
    (tmp_path / "loop.png").symlink_to("loop.png")
    segment(tmp_path / "loop.png", *out).fails("loop.png", "no such file")
    segment("x" * 5000, *out).fails("no such file")
    segment(bad_file(tmp_path, b""), *out).fails("x.png", "0 bytes")
    segment(bad_file(tmp_path, b"words"), *out).fails("x.png", "not an image")
    segment(bad_file(tmp_path, whole[: len(whole) // 2]), *out).fails("x.png", "truncated")
    segment(pictures / "p2.png", "--max-pixels", 3599, *out).fails("60 x 60", "--max-pixels")
    assert segment(pictures / "p2.png", "--max-pixels", 3600, *out).exit_code == 0
    segment(str(tmp_path / "*.webp"), *out).fails("*.webp", "matches no file")
    (tmp_path / "empty").mkdir()
    segment(tmp_path / "empty", *out).fails("no picture in this folder")


@pytest.mark.parametrize(
    ("labels", "part"),
    [
        ("", "no label"),
        ("a,,b", "empty"),
        ("sea, Sea", "twice"),
        ("house " * 60, "too long"),
        ("boat|boat", "twice"),
    ],
)
def test_bad_labels_are_refused(pictures: Path, tmp_path: Path, segment, labels: str, part: str):
    segment(pictures, "--out", tmp_path / "out", labels=labels).fails(part)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--background", "1.5"], "between 0 and 1"),
        (["--background", "Sea|wall,ocean"], "twice"),
        (["--template", "a house"], "must contain {}"),
        (["--size", "3"], "at least 8"),
        (["--device", "cuda:77"], "not available"),
    ],
)
def test_bad_options_are_refused(
    pictures: Path, tmp_path: Path, model_folder: Path, options: list[str], part: str
):
    command = ["--labels", LABELS, "--out", tmp_path / "out", "--model", model_folder]
    invoke("segment", pictures, *command, *options).fails(part)


def test_places_that_cannot_be_written_are_refused(pictures: Path, tmp_path: Path, segment):
    (tmp_path / "file").touch()
    segment(pictures, "--out", tmp_path / "file").fails("choose another")
    segment(pictures, "--out", tmp_path / "file/below").fails("choose another")
    segment(pictures, "--out", "/proc/results").fails("choose another")
    segment(pictures, "--out", pictures).fails("holds the pictures")


def test_bad_models_are_refused(
    pictures: Path,
    tmp_path: Path,
    segment,
    model_folder: Path,
    baseline_folder: Path,
    paper_folder: Path,
):
    out = ["--out", tmp_path / "out"]
    segment(pictures, *out, model=tmp_path / "none").fails("unknown model")
    segment(pictures, *out, model=pictures).fails("lacks model.safetensors")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (damaged / name).write_bytes((model_folder / name).read_bytes())
    (damaged / "model.safetensors").write_bytes(
        (model_folder / "model.safetensors").read_bytes()[:5000]
    )
    segment(pictures, *out, model=damaged).fails("model.safetensors", "damaged")
    (damaged / "model.safetensors").write_bytes(
        (baseline_folder / "model.safetensors").read_bytes()
    )
    segment(pictures, *out, model=damaged).fails("another model")
    segment(pictures, *out, "--saliency", model=baseline_folder).fails("SDM")
    segment(pictures, *out, "--background", "foreground", model=paper_folder).fails("stuff")


def test_labels_or_a_vocabulary_but_not_both(pictures: Path, tmp_path: Path):
    arguments = ["segment", str(pictures), "--out", str(tmp_path / "out")]
    for options, part in (
        ([], 'give either --labels "house, sea" or --vocabulary a150'),
        (["--labels", "sea", "--vocabulary", "a150"], "give either"),
        (["--labels", "sea", "--synonyms"], "--synonyms belongs to --vocabulary"),
        (["--vocabulary", "ade"], 'unknown vocabulary "ade"'),
        (["--vocabulary", str(tmp_path / "missing.txt")], "missing.txt: no such file"),
    ):
        invoke([*arguments, *options]).fails(part)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_run_in_one_line(pictures: Path, tmp_path: Path, segment):
    many(pictures, 9)
    out = tmp_path / "out"
    (out / "q05.json").mkdir(parents=True)
    segment(pictures, "--out", out, "--workers", 2).fails("q05.json")
