import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from disa.errors import DisaError
from disa.running.drafts import draft, remove_folder
from disa.running.files import (
    file_sha256,
    prepare_file,
    prepare_folder,
    replace_file,
    write_json,
    write_whole,
)
from disa.running.locks import hold


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


def test_checksums_are_those_of_sha256sum(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


@pytest.mark.skipif(os.name == "nt", reason="no such devices there")
def test_devices_and_pipes_are_written_to_and_stay(tmp_path: Path):
    for path in (Path("/dev/null"), tmp_path / "link"):
        if not path.exists():
            path.symlink_to("/dev/null")
        prepare_file(path)
        write_json(path, {"a": 1})
        assert path.is_char_device()
    with pytest.raises(DisaError, match="No space left"):
        write_json(Path("/dev/full"), {"a": 1})

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    prepare_file(pipe)
    write_json(pipe, {"a": 1})
    assert json.loads(os.read(reader, 1000)) == {"a": 1}
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no /dev/stdout there")
def test_the_own_output_is_added_to_wherever_it_goes(tmp_path: Path):
    out = tmp_path / "out.txt"
    code = (
        "from pathlib import Path; from disa.running.files import write_json\n"
        "print('before'); write_json(Path('/dev/stdout'), 1); print('after')"
    )
    with out.open("w") as stdout:
        subprocess.run([sys.executable, "-c", code], stdout=stdout, check=True)
    assert out.read_text() == "before\n1\nafter\n"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert piped.stdout == "before\n1\nafter\n"
    assert Path("/dev/stdout").is_symlink()


def test_a_planted_link_is_replaced_and_its_target_stays(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.txt").symlink_to(victim)
    write_whole(tmp_path / "a.txt", lambda file: file.write(b"new"))
    assert victim.read_text() == "precious"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert not (tmp_path / "a.txt").is_symlink()


def test_nobody_else_can_plant_a_link_where_drafts_are_made(tmp_path: Path):
    places = []
    for _ in range(2):
        with draft(tmp_path / "a.txt") as part:
            places.append(part.parent)
            assert part.parent.stat().st_mode & 0o077 == 0 or os.name == "nt"
            assert not part.exists()
    assert places[0] != places[1]
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_the_living_stay_and_those_of_the_dead_go(tmp_path: Path):
    dead = tmp_path / ".disa-0123456789abcdef.part"
    dead.mkdir()
    (dead / "a.txt").write_text("half")
    own = tmp_path / ".mine.part"
    own.write_text("somebody's")
    link = tmp_path / ".disa-link.part"
    link.symlink_to(tmp_path, target_is_directory=True)
    with draft(tmp_path / "b.txt") as part:
        part.write_text("half")
        prepare_folder(tmp_path)
        assert part.read_text() == "half"
        assert not dead.exists()
    assert {path.name for path in tmp_path.iterdir()} == {".mine.part", ".disa-link.part"}


def test_a_folder_is_removed_without_being_half_there(tmp_path: Path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    remove_folder(folder)
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_holds_a_lock_and_what_is_no_lock_file_is_refused(tmp_path: Path):
    lock = tmp_path / ".lock"
    with hold(lock, 0.0, ""), pytest.raises(DisaError, match="busy"), hold(lock, 0.0, "busy"):
        pass
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder"):
        with pytest.raises(DisaError, match=name), hold(tmp_path / name, 0.0, ""):
            pass
    assert victim.read_text() == "precious"
