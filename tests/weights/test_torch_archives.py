"""Archives that would grow when they are read: what they declare against what they hold."""

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import catseg_formats
import pytest
import torch
from refusals import refused

from disa.weights.catseg import read_catseg
from disa.weights.tensor_files import read_torch_file

HUGE = 10**11  # more than any machine that runs the tests has, in bytes


def peak() -> int:
    """Return the largest memory of this process so far, in bytes on Linux."""
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("legacy", [False, True])
def test_one_number_that_is_shown_often_is_refused(tmp_path: Path, legacy: bool):
    path = tmp_path / "m.pth"
    state = {"a": torch.zeros(1).expand(HUGE), "b": torch.zeros(1000)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with refused(path, f"{4 * HUGE + 4000:,}", f"{path.stat().st_size:,}"):
        read_torch_file(path)


def test_a_tensor_with_many_names_is_refused(tmp_path: Path):
    path = tmp_path / "m.pth"
    shared = torch.zeros(10_000)
    torch.save({"a": shared, "b": shared}, path)
    assert len(read_torch_file(path)) == 2
    torch.save({str(number): shared for number in range(20)}, path)
    with refused(path, f"{20 * 40_000:,}"):
        read_torch_file(path)


def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path: Path):
    path = tmp_path / "m.pth"
    size = 3 * 10**8
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("m/data.pkl", "w") as file:
            for _ in range(300):
                file.write(bytes(size // 300))
        archive.writestr("m/version", "3\n")
    before = peak()
    with refused(path, "m/data.pkl", f"{size:,}"):
        read_torch_file(path)
    assert peak() - before < size / 3


def test_files_that_lie_over_one_another_are_refused(tmp_path: Path):
    path = tmp_path / "m.pth"
    torch.save({"a": torch.zeros(100_000)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        # The directory of the archive lists the same bytes again.
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        archive.filelist += [largest] * 5
    with refused(path, "more than it has"):
        read_torch_file(path)


@pytest.mark.parametrize("content", [b"\x80\x02.", b"K\x01.", b"]q\x00.", b"(.", b"\x8c", b"text"])
def test_pickles_of_a_few_bytes_are_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "m.pth"
    path.write_bytes(content)
    with refused(path):
        read_torch_file(path)


def test_an_archive_without_its_pickle_and_a_tar_are_refused(tmp_path: Path):
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data/0", b"123")
    with refused(path):
        read_torch_file(path)
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("pickle")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(pickle.dumps(1)[:3]))
    with refused(path, "tar"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(4, 4).to_sparse(), torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8)],
    ids=["sparse", "quantized"],
)
def test_tensors_that_are_not_plain_are_refused(tmp_path: Path, tensor: torch.Tensor):
    torch.save({"a": tensor}, tmp_path / "m.pth")
    with refused(tmp_path / "m.pth", "no plain one"):
        read_torch_file(tmp_path / "m.pth")


def test_a_convolution_of_30_000_in_a_checkpoint_is_refused(tmp_path: Path):
    name = f"{catseg_formats.PREDICTOR}clip_model.visual.conv1.weight"
    for shape in ((0, 3, 30_000, 30_000), (1, 3, 30_000, 30_000)):
        state = catseg_formats.official_state() | {name: torch.zeros(1).expand(shape)}
        torch.save({"model": state}, tmp_path / "m.pth")
        with refused(tmp_path / "m.pth"):
            read_catseg(tmp_path / "m.pth")
