"""PyTorch's own files are read, and nothing in them is run."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from clip_formats import torchscript_file

from disa.errors import DisaError
from disa.weights.torch_file import read_torch_file


class Bomb:
    """A pickle that runs a command when it is opened without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_torchscript_gives_the_state_dict_of_its_modules(tmp_path: Path):
    shared = torch.randn(3, 4)
    state = {
        "a": torch.randn(2),
        "b.c.weight": torch.randn(3, 4).half(),
        "b.c.turned": shared.t(),
        "b.d": torch.arange(5),
        "b.scalar": torch.tensor(2.5),
        "e.empty": torch.zeros(0, 2),
    }
    read = read_torch_file(torchscript_file(state, tmp_path / "m.pt"))
    assert set(state) <= set(read)
    for name, value in state.items():
        assert read[name].dtype == value.dtype and torch.equal(read[name], value)


@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_of_both_archive_formats_are_read(tmp_path: Path, legacy: bool):
    data = {"model": {"a": torch.randn(3)}, "iteration": 7}
    torch.save(data, tmp_path / "m.pth", _use_new_zipfile_serialization=not legacy)
    read = read_torch_file(tmp_path / "m.pth")
    assert read["iteration"] == 7 and torch.equal(read["model"]["a"], data["model"]["a"])


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, legacy: bool):
    torch.save(
        {"a": Bomb(tmp_path / "ran")}, tmp_path / "m.pth", _use_new_zipfile_serialization=not legacy
    )
    with pytest.raises(DisaError, match=r"m\.pth: holds more than tensors.*could run code"):
        read_torch_file(tmp_path / "m.pth")
    assert not (tmp_path / "ran").exists()


def test_code_in_a_torchscript_archive_is_refused_and_not_run(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(Bomb(tmp_path / "ran")))
        archive.writestr("m/constants.pkl", pickle.dumps(()))
    with pytest.raises(DisaError, match="could run code"):
        read_torch_file(tmp_path / "m.pt")
    assert not (tmp_path / "ran").exists()


def test_a_record_that_is_shorter_than_it_says_is_refused(tmp_path: Path):
    whole = torchscript_file({"a": torch.randn(1000)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "m.pt", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data[:16] if len(data) == 4000 else data)
    with pytest.raises(DisaError, match="has 16 bytes, expected 4000"):
        read_torch_file(tmp_path / "m.pt")


def test_files_of_other_kinds_are_refused_in_one_line(tmp_path: Path):
    torch.save({"a": torch.randn(1000)}, tmp_path / "m.pth")
    whole = (tmp_path / "m.pth").read_bytes()
    for data in (b"", b"no pickle at all", whole[: len(whole) // 2], b"PK\x03\x04" + bytes(100)):
        (tmp_path / "m.pth").write_bytes(data)
        with pytest.raises(DisaError, match=r"m\.pth: ") as caught:
            read_torch_file(tmp_path / "m.pth")
        assert "\n" not in str(caught.value)
    with pytest.raises(DisaError, match="no such file"):
        read_torch_file(tmp_path / "none.pth")
