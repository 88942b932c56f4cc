"""Pictures as users have them, through the command line; and disa within other programs."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import invoke
from PIL import Image
from torch.utils.data import DataLoader

import disa
from disa.data import picture_files
from disa.data.images import read_image
from disa.interfaces.cli import COMMANDS

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(PIXELS).save(folder / "a.png")
    return folder / "a.png"


def disa_process(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "disa", *map(str, arguments)],
        capture_output=True,
        env={**os.environ, **environment},
    )


def test_pictures_left_out_are_counted_in_the_exit_code(
    picture: Path, tmp_path: Path, segment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(picture_files, "find_spec", lambda name: None)
    (picture.parent / "b.heic").write_bytes(b"x")
    done = segment(picture.parent, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "1 .heic" in done.stderr
    assert (tmp_path / "out/a.json").exists()


def test_notes_on_pictures_are_printed(picture: Path, tmp_path: Path, segment):
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 16).save(picture.parent / "deep.png")
    done = segment(picture.parent, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "deep.png" in done.stderr
    assert "--stretch" in done.stderr
    assert segment(picture.parent, "--out", tmp_path / "out", "--stretch").stderr == ""


def test_standard_input_is_a_picture(
    picture: Path, tmp_path: Path, segment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(picture.read_bytes())))
    assert segment("-", "--out", tmp_path / "out").exit_code == 0
    result = json.loads((tmp_path / "out/stdin.json").read_text())
    assert (result["height"], result["width"]) == (24, 32)
    segment("https://example.org/a.png", "--out", tmp_path / "out").fails("https://example.org")


def test_a_run_among_its_pictures_takes_no_results(picture: Path, segment):
    pattern = picture.parent / "**/*.png"
    for out in ("first", "second", "first"):
        assert segment(pattern, "--out", picture.parent / out).exit_code == 0
        assert [file.name for file in (picture.parent / out).glob("*.json")] == ["a.json"]


def test_subfolders_are_taken_when_asked(picture: Path, tmp_path: Path, segment):
    inner = picture.parent / "inner"
    inner.mkdir()
    Image.fromarray(PIXELS).save(inner / "a.png")
    done = segment(picture.parent, "--out", tmp_path / "out")
    assert str(inner) in done.stderr
    segment(picture.parent, "--out", tmp_path / "all", "--recursive")
    assert len(list((tmp_path / "all").glob("*.json"))) == 2


@pytest.mark.parametrize("form", ["equals", "words", "config"])
def test_the_home_folder_is_found_in_any_option(
    picture: Path, tmp_path: Path, segment, monkeypatch: pytest.MonkeyPatch, form: str
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "options.yaml").write_text("out: ~/results\n")
    options = {
        "equals": ["--out=~/results"],
        "words": ["--out", "~/results"],
        "config": ["--config", "~/options.yaml"],
    }
    done = segment("~/pictures/*.png", *options[form])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "results/a.json").exists()
    assert not (tmp_path / "~").exists()


def data_set(root: Path, exif_turn: int, mask_shape: tuple[int, int]) -> Path:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[274] = exif_turn
    Image.fromarray(PIXELS).save(root / "images/a.jpg", exif=exif)
    mask = np.zeros(mask_shape, np.uint8)
    mask[:4] = 1
    Image.fromarray(mask).save(root / "masks/a.png")
    (root / "classes.txt").write_text("sand\n\u732b\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("turn", [3, 6])
def test_the_check_mentions_turned_pictures(tmp_path: Path, turn: int):
    shape = (32, 24) if turn == 6 else (24, 32)
    done = invoke("data", "check", "folder", data_set(tmp_path / "data", turn, shape))
    assert done.exit_code == 0, done.output
    assert "1 picture turned" in done.stdout


def test_a_mask_of_the_stored_size_is_told_why(tmp_path: Path):
    done = invoke("data", "check", "folder", data_set(tmp_path / "data", 6, (24, 32)))
    assert done.exit_code == 2
    assert "EXIF" in next(line for line in done.stdout.splitlines() if "problem" in line)


def test_a_data_set_in_subfolders_is_told_so(tmp_path: Path):
    root = data_set(tmp_path / "data", 1, (24, 32))
    (root / "images/train").mkdir()
    (root / "images/a.jpg").rename(root / "images/train/a.jpg")
    invoke("data", "check", "folder", root).fails("subfolder train")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_any_code_page_takes_the_output(tmp_path: Path, encoding: str):
    root = data_set(tmp_path / "data", 1, (24, 32))
    done = disa_process("data", "check", "folder", root, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert b"\\u732b" in done.stdout


@pytest.mark.slow
def test_the_help_of_every_command_can_be_piped_in_ascii():
    program = (
        "from contextlib import suppress; from disa.interfaces.cli import COMMANDS, main\n"
        "for command in COMMANDS:\n"
        "  with suppress(SystemExit): main([*command.split(), '--help'])"
    )
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=ascii_only)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert all(f"usage: disa {command} ".encode() in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_callers_autocast_changes_nothing(model_folder: Path, dtype: torch.dtype):
    segmenter = disa.load(model_folder, device="cpu")
    expected = segmenter(PIXELS, ["house", "sea"], scores=True)
    fresh = disa.load(model_folder, device="cpu")
    with torch.autocast("cpu", dtype=dtype):
        results = [fresh(PIXELS, ["house", "sea"], scores=True)]
        results.append(fresh.open(PIXELS)(["house", "sea"], scores=True))
    for result in results:
        np.testing.assert_array_equal(result.scores, expected.scores)


def test_the_callers_defaults_change_nothing(model_folder: Path):
    expected = disa.load(model_folder, device="cpu")(PIXELS, ["house", "sea"], scores=True)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")  # as a GPU may be
    try:
        result = disa.load(model_folder, device="cpu")(PIXELS, ["house", "sea"], scores=True)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    np.testing.assert_array_equal(result.scores, expected.scores)


class Files(torch.utils.data.Dataset):
    """Pictures of a `DataLoader`."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(read_image(self.files[index]))


@pytest.mark.slow
def test_pictures_are_read_in_the_workers_of_a_loader(picture: Path):
    read_image(picture)  # in this process first, as whoever shows a sample does
    for batch in DataLoader(Files([picture] * 4), batch_size=2, num_workers=2):
        np.testing.assert_array_equal(batch, np.stack([PIXELS] * 2))
