"""`disa export`: graphs that say what the network says, and that segment by themselves.

The command runs in a process of its own, because the shape checks of the tests hinder exporting.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import invoke
from filelock import FileLock
from refusals import refused
from small_network import small_config, stir

import disa
from disa.inference.export import AGREEMENT, TOLERANCE, compare
from disa.model.disa import Disa
from disa.pretraining.byte_pairs import save_tokenizer, train_tokenizer
from disa.weights.exported import ExportedModel, load_exported
from disa.weights.load import load
from disa.weights.model_folder import save

LABELS = ["house", "sea", "boat|ship"]

pytestmark = pytest.mark.slow


def export(model: object, out: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "disa", "export", str(model), str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    # A line for each comparison.
    assert done.stdout.count("%") >= 5
    return out


def save_tiny(folder: Path, recipe: str, **changes: object) -> Path:
    """Save a recipe with narrow parts, stirred, and a tokenizer of its vocabulary.

    One level of refinement: a second one is the same again, and takes as long to export.
    """
    config = small_config(recipe, refine_levels=1, **changes)
    text = {"vocab_size": 600, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 1}
    towers = {"text_config": config.backbone_clip["text_config"] | text}
    torch.manual_seed(3)
    model = Disa(config.replace(backbone_clip=config.backbone_clip | towers, max_categories=9))
    stir(model)
    save(model, folder)
    save_tokenizer(train_tokenizer(["a photo of a house in the scene"] * 30, 600), folder, 77)
    return folder


def shared(name: str, factory: pytest.TempPathFactory) -> tuple[Path, FileLock]:
    """Return a place for all processes of this test run: an export takes a minute of a core."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        root = factory.mktemp("exports")
    else:
        root = factory.getbasetemp().parent / f"exports-{run}"
        root.mkdir(exist_ok=True)
    return root / name, FileLock(root / f"{name}.lock")


@pytest.fixture(scope="session")
def mini_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with all that the bundled model has."""
    own, lock = shared("mini", tmp_path_factory)
    parts = {"things": True, "decode_enlarge": True, "decode_detail_channels": 8}
    with lock:
        return own if own.exists() else save_tiny(own, "mini", **parts)


@pytest.fixture(scope="session")
def onnx_folder(mini_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, lock = shared("onnx", tmp_path_factory)
    with lock:
        return out if out.exists() else export(mini_folder, out)


@pytest.fixture(scope="session")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own, lock = shared("baseline", tmp_path_factory)
    with lock:
        return own if own.exists() else save_tiny(own, "mini-baseline")


@pytest.fixture(scope="session")
def torch_folder(baseline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, lock = shared("torch", tmp_path_factory)
    with lock:
        return out if out.exists() else export(baseline, out, "--format", "torch")


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 71, 3), np.uint8)


@pytest.mark.parametrize(
    ("own", "folder", "background"),
    [
        ("mini_folder", "onnx_folder", {"background": "foreground"}),
        ("baseline", "torch_folder", {"background": "sky"}),
    ],
)
def test_an_export_segments_as_the_model_does(
    own: str,
    folder: str,
    background: dict[str, str],
    picture: np.ndarray,
    request: pytest.FixtureRequest,
) -> None:
    """On every size and count they agreed, or the command would have failed."""
    model = disa.load(request.getfixturevalue(own), "cpu")
    folder = request.getfixturevalue(folder)
    assert not list(folder.glob("*.safetensors"))
    exported = disa.load(folder, "cpu")
    assert isinstance(exported.model, ExportedModel)
    for options in ({}, {"protocol": "windows", "size": 90}, background):
        expected = model(picture, LABELS, scores=True, **options)
        found = exported(picture, LABELS, scores=True, **options)
        assert np.mean(found.labels == expected.labels) >= AGREEMENT
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        assert (found.token_saliency is None) == (own == "baseline")
        if found.token_saliency is not None:
            near = 1e-4 * expected.token_saliency.max()
            np.testing.assert_allclose(found.token_saliency, expected.token_saliency, atol=near)
            assert found.matched == pytest.approx(expected.matched, abs=1e-4)

    # A list, and a session.
    several = exported([picture, picture[:, :48]], LABELS)
    assert [each.labels.shape for each in several] == [(50, 71), (50, 48)]
    again = exported.open(picture)(LABELS, scores=True)
    np.testing.assert_allclose(again.scores, model(picture, LABELS, scores=True).scores, atol=1e-4)


def test_the_commands_take_an_export(onnx_folder: Path, tmp_path: Path) -> None:
    invoke("picturebook", tmp_path / "scenes", "--count", 1, "--size", 64)
    out = tmp_path / "out"
    done = invoke(
        "segment", tmp_path / "scenes", "--labels", "house", "--model", onnx_folder, "-o", out
    )
    assert done.exit_code == 0, done.output
    assert list(out.glob("*_overlay.png"))

    file = tmp_path / "numbers.json"
    options = ("--model", onnx_folder, "--out", tmp_path / "run", "--json", file)
    done = invoke("evaluate", "picturebook", "--limit", 2, *options)
    assert done.exit_code == 0, done.output
    assert json.loads(file.read_text())["scenes"] == 2


def test_what_an_export_cannot_do_is_one_line(
    onnx_folder: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    segmenter = disa.load(onnx_folder)
    with refused("export", "gate"):
        segmenter(picture, LABELS, gate=1)
    with refused("export"):
        segmenter.save_pretrained(onnx_folder / "copy")
    with refused("export", "bfloat16"):
        disa.load(onnx_folder, dtype=torch.bfloat16)
    with refused("cpu"):
        disa.load(onnx_folder, device="cuda")
    with refused("48", "50", "patch"):
        segmenter.model.look(torch.zeros(1, 3, 48, 50))
    invoke("bench", onnx_folder).fails("export")
    invoke("export", onnx_folder, onnx_folder / "again").fails("export")
    options = ("--dense-clip", "--limit", 1, "--model", onnx_folder, "--out", tmp_path)
    invoke("evaluate", "picturebook", *options).fails("export")


def test_an_export_in_8_bit(
    mini_folder: Path, onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The graphs in 32 bit, which take a minute, are there.
    monkeypatch.setattr(
        "disa.inference.export._write",
        lambda _model, _tokenizer, folder, _runtime: shutil.copytree(
            onnx_folder, folder, dirs_exist_ok=True
        ),
    )
    out = tmp_path / "out"
    done = invoke("export", mini_folder, out, "--int8")
    assert done.exit_code == 0, done.output
    files = {path.name for path in out.iterdir()}
    assert files == {"config.json", "tokenizer.json", "text.onnx", "image.onnx"}
    assert b"DynamicQuantizeLinear" in (out / "image.onnx").read_bytes()
    model, tokenizer = load(mini_folder)
    few = compare(model, load_exported(out), tokenizer)[0]
    assert few.difference > TOLERANCE
    assert few.agreement > 0.5


def test_a_wrong_graph_is_found(mini_folder: Path, onnx_folder: Path) -> None:
    model, tokenizer = load(mini_folder)
    exported = load_exported(onnx_folder)
    image = exported.image
    for factor in (1.001, torch.nan):
        # The logits come first.
        exported.image = lambda *values, by=factor: [image(*values)[0] * by, *image(*values)[1:]]
        assert not any(each.holds for each in compare(model, exported, tokenizer))


def test_damaged_exports_are_one_line(torch_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "text.pt2"):
        (tmp_path / name).write_bytes((torch_folder / name).read_bytes())
    with refused(tmp_path / "image.pt2"):
        disa.load(tmp_path)
    (tmp_path / "image.pt2").write_bytes(b"nothing")
    with refused(tmp_path / "image.pt2"):
        disa.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"runtime": "other"}))
    with refused(tmp_path / "config.json"):
        disa.load(tmp_path)


def test_a_missing_package_is_named(
    onnx_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with refused("onnxruntime", "pip install"):
        disa.load(onnx_folder)
    invoke("export", "mini", tmp_path / "out").fails("onnxruntime", "pip install")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_and_8_bit_for_torch_are_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    invoke("export", "mini", model_folder).fails(model_folder)
    invoke("export", "mini", tmp_path / "out", "--format", "torch", "--int8").fails("int8", "torch")
    assert not (tmp_path / "out").exists()
