"""PyTorch's own files are read, and nothing in them is run."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from disa.errors import DisaError
from disa.weights.tensor_files import read_torch_file


class Bomb:
    """A pickle that runs a command when it is opened without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


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


def test_a_torchscript_archive_is_refused_and_nothing_in_it_is_run(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(Bomb(tmp_path / "ran")))
        archive.writestr("m/constants.pkl", pickle.dumps(()))
    with pytest.raises(DisaError) as error:
        read_torch_file(tmp_path / "m.pt")
    assert "m.pt" in str(error.value) and "clip-vit-b-16" in str(error.value)
    assert not (tmp_path / "ran").exists()


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
