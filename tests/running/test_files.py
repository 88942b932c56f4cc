import json
import os
from pathlib import Path

import pytest

from disa.errors import DisaError
from disa.running.files import (
    file_sha256,
    prepare_file,
    prepare_folder,
    read_json,
    replace_file,
    write_json,
    write_whole,
)


def test_a_file_appears_whole_and_leaves_no_draft(tmp_path: Path):
    write_whole(tmp_path / "a.txt", lambda file: file.write(b"new"))
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_keeps_the_old_file(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def half(file) -> None:
        file.write(b"ne")
        raise error

    with pytest.raises(error):
        write_whole(path, half)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_no_reader_sees_half_a_file(tmp_path: Path):
    path, seen = tmp_path / "a.txt", []
    path.write_bytes(b"old")

    def slowly(draft: Path) -> None:
        draft.write_bytes(b"n")
        seen.append(path.read_bytes())
        draft.write_bytes(b"new")
        seen.append(path.read_bytes())

    replace_file(path, slowly)
    assert seen == [b"old", b"old"]
    assert path.read_bytes() == b"new"


def test_places_that_take_no_file_are_refused(tmp_path: Path):
    with pytest.raises(DisaError, match=r"a/b\.txt"):
        write_whole(tmp_path / "a" / "b.txt", lambda file: file.write(b""))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DisaError, match="folder"):
        write_whole(tmp_path / "folder", lambda file: file.write(b""))


def test_folders_are_tried_before_any_work(tmp_path: Path):
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DisaError, match=str(path)):
            prepare_folder(path)
    if os.name == "posix" and os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "a").chmod(0o500)
        with pytest.raises(DisaError, match="Permission denied"):
            prepare_folder(tmp_path / "a" / "c")


def test_a_file_to_be_written_is_no_folder(tmp_path: Path):
    prepare_file(tmp_path / "new" / "result.json")
    assert (tmp_path / "new").is_dir() and not list((tmp_path / "new").iterdir())
    with pytest.raises(DisaError, match=str(tmp_path)):
        prepare_file(tmp_path)


def test_json_comes_back(tmp_path: Path):
    path = tmp_path / "a.json"
    data = {"name": "naïve", "numbers": [1, 2.5, None]}
    write_json(path, data)
    assert read_json(path, "") == data
    path.write_text("\ufeff" + json.dumps(data), encoding="utf-8")
    assert read_json(path, "") == data


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, None])
def test_json_that_cannot_be_read_names_the_file_and_the_remedy(
    tmp_path: Path, content: str | None
):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DisaError) as raised:
        read_json(path, "fetch it again")
    assert str(path) in str(raised.value)
    assert str(raised.value).endswith("fetch it again")


def test_checksums_are_those_of_sha256sum(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")
