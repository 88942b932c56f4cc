"""Which files are found, which are left out, and that this is said."""

import os
from pathlib import Path

import pytest
from refusals import refused

from disa.data import picture_files
from disa.data.picture_paths import STDIN, expand


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_links_to_one_file_are_two_pictures_and_two_spellings_one(tmp_path: Path):
    touch(tmp_path / "blobs/3f78.png")
    (tmp_path / "seen").mkdir()
    links = [tmp_path / "seen" / name for name in ("left.png", "right.png")]
    for link in links:
        link.symlink_to("../blobs/3f78.png")
    assert expand([tmp_path / "seen"]).files == links
    assert len(expand([links[0], tmp_path / "seen/../seen/left.png"]).files) == 1


def test_subfolders_are_taken_or_named(tmp_path: Path):
    first, second = tmp_path / "trip/day1/a.jpg", tmp_path / "trip/day2/b.jpg"
    touch(first, second, tmp_path / "trip/.hidden/c.jpg")
    assert expand([tmp_path / "trip"], recursive=True).files == [first, second]
    with refused(tmp_path / "trip", first.parent, "--recursive"):
        expand([tmp_path / "trip"])
    touch(tmp_path / "trip/top.jpg")
    (note,) = expand([tmp_path / "trip"]).notes
    assert str(first.parent) in note


def test_linked_folders_are_visited_once(tmp_path: Path):
    touch(tmp_path / "a/b/c.png")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    assert expand([tmp_path / "a"], recursive=True).files == [tmp_path / "a/b/c.png"]


def test_results_are_no_pictures_unless_they_are_named(tmp_path: Path):
    result = tmp_path / "out/a_overlay.png"
    touch(tmp_path / "a.png", result, tmp_path / "out/a.json", tmp_path / "out/own_labels.png")
    pattern = os.fspath(tmp_path / "**/*.png")
    kept = [tmp_path / "a.png", tmp_path / "out/own_labels.png"]
    assert expand([pattern]).files == kept
    assert expand([tmp_path], recursive=True).files == kept
    assert expand([result]).files == [result]
    with refused("earlier runs"):
        expand([os.fspath(tmp_path / "out/*_overlay.png")])
    (tmp_path / "out/own_labels.png").unlink()
    with refused(tmp_path / "out", "earlier runs"):
        expand([tmp_path / "out"])


@pytest.mark.parametrize("given", ["folder", "glob"])
def test_pictures_that_cannot_be_read_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
):
    touch(*(tmp_path / name for name in ("a.jpg", "b.HEIC", "c.heic", "d.jxl", "e.NEF")))
    source = tmp_path if given == "folder" else os.fspath(tmp_path / "*")
    monkeypatch.setattr(picture_files, "find_spec", lambda name: None)
    found = expand([source])
    assert found.files == [tmp_path / "a.jpg"]
    assert found.left_out == {".heic": 2, ".jxl": 1, ".nef": 1}
    assert "disa-seg[heif]" in found.unread()
    monkeypatch.setattr(picture_files, "find_spec", lambda name: object())
    assert len(expand([source]).files) == 3
    (tmp_path / "a.jpg").unlink()
    monkeypatch.setattr(picture_files, "find_spec", lambda name: None)
    with refused(".heic"):
        expand([tmp_path])


def test_standard_input_and_addresses():
    assert expand(["-"]).files == [STDIN]
    for address in ("https://example.org/a.jpg", "s3://bucket/a.jpg"):
        with refused(address):
            expand([address])
