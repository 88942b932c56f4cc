"""What `disa segment` says beside its results: about the model, labels and characters."""

import shutil
from pathlib import Path

import pytest
from command_line import invoke
from matplotlib import cbook
from PIL import Image
from sklearn.datasets import load_sample_image

from disa.inference import fonts, lettering
from disa.picturebook import TEST_SEED, render


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    path = tmp_path / "drawing.png"
    Image.fromarray(render(TEST_SEED, 0).image).save(path)
    return path


def test_the_bundled_model_says_what_it_knows_and_what_it_never_read(drawing: Path, tmp_path: Path):
    picture = drawing
    labels = "cow|bull, red house, Ship, grass, sky scraper, photograph"
    result = invoke("segment", picture, "-l", labels, "--out", tmp_path / "out")
    assert result.exit_code == 0
    first = result.stdout.splitlines()[0]
    assert "mini" in first
    assert "not photographs" in first
    (note,) = result.stderr.splitlines()
    for strange in ("cow|bull", "photograph", "--model cat-seg-b"):
        assert strange in note
    for known in ("house", "Ship", "grass"):
        assert known not in note

    words = ["-l", "cottage, sea", "--out", tmp_path / "out"]
    assert invoke("segment", picture, *words).stderr == ""
    assert "zebra" in invoke("segment", picture, *words, "--background", "zebra").stderr


def test_the_bundled_model_warns_of_photographs(drawing: Path, tmp_path: Path, segment):
    """Photographs that test packages bring with them; one alone may pass (decision D126)."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in ("china.jpg", "flower.jpg"):
        Image.fromarray(load_sample_image(name)).save(photographs / name)
    shutil.copy(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), photographs)
    words = ["-l", "grass, sky", "--out", tmp_path / "out", "--no-overlay"]
    warned = invoke("segment", photographs, *words)
    assert warned.exit_code == 0
    assert "of 3 pictures" in warned.stderr
    assert "--model cat-seg-b" in warned.stderr
    assert segment(photographs, "--out", tmp_path / "out").stderr == ""  # another model

    # Unreadable ones count for nothing, and the drawing beside them is familiar.
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert "drawings" not in invoke("segment", drawing, tmp_path / "bad.png", *words).stderr


def test_labels_that_are_not_what_they_look_like_are_named(pictures: Path, tmp_path: Path, segment):
    odd = segment(pictures / "p0.png", "--out", tmp_path / "out", labels="se\u00ada, house")
    assert odd.exit_code == 0
    assert "U+00AD SOFT HYPHEN" in odd.stderr


def test_a_single_label_gets_a_hint_at_the_background(pictures: Path, tmp_path: Path, segment):
    out = tmp_path / "out"
    result = segment(pictures / "p0.png", "--out", out, labels="house")
    assert result.exit_code == 0
    assert "--background" in result.stderr
    result = segment(pictures / "p0.png", "--out", out, "--background", "0.3", labels="house")
    assert result.stderr == ""


def test_characters_that_no_font_draws_are_named(
    pictures: Path, tmp_path: Path, segment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")  # without fontconfig
    monkeypatch.setattr(fonts, "_places", {})
    fonts.fonts_for.cache_clear()
    options = [pictures / "p0.png", "--out", tmp_path / "out"]
    try:
        result = segment(*options, labels="\u732b, house")
        assert result.exit_code == 0
        assert "\u732b" in result.stderr
        assert "font" in result.stderr
        assert segment(*options, "--no-overlay", labels="\u732b, house").stderr == ""
        assert segment(*options, labels="cat, house").stderr == ""
        monkeypatch.setattr(lettering.features, "check", lambda name: False)
        assert "raqm" in segment(*options, labels="\u0642\u0637\u0629, house").stderr
    finally:
        fonts.fonts_for.cache_clear()
        lettering.runs.cache_clear()
