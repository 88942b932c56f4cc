"""Models from the Hub, through the real client, against a hub on loopback; each case in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import clip_formats as formats
import pytest
import torch
from fake_hub import COMMIT, Hub, hub

from disa.inference.catalogue import CATSEG_SPACE, PUBLISHED
from disa.model.disa import Disa
from disa.model.pretrained import read_config
from disa.training.tokenizer import train_tokenizer

LOAD = "import disa, sys; segmenter = disa.load(sys.argv[1], 'cpu'); print(type(segmenter.model).__name__)"
SEGMENT = """
import disa, sys, numpy
picture = numpy.arange(3 * 40 * 50, dtype=numpy.uint8).reshape(40, 50, 3)
print(disa.load(sys.argv[1], "cpu")(picture, ["a", "b"], scores=True).scores.tobytes().hex()[:4000])
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    with hub(tmp_path / "hub") as served:
        yield served


def python(code: str, *arguments: object, hub: Hub, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | hub.environment(cache) | more
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def disa(*words: object, hub: Hub, cache: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | hub.environment(cache) | more
    command = [sys.executable, "-m", "disa", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def clip_repository(folder: Path, form: str) -> Path:
    """A CLIP folder with a tokenizer that ends texts as the text tower expects."""
    formats.write_folder(formats.small_clip(words=600, context=40), folder, form)
    tokenizer(folder / "tokenizer.json")
    return folder


def tokenizer(path: Path) -> None:
    """A tokenizer of 600 entries whose end of text is the highest id, as CLIP's."""
    data = json.loads(train_tokenizer(["a photo of a house in the scene"] * 30, 598).to_str())
    moved = {"<|startoftext|>": 598, "<|endoftext|>": 599}
    data["model"]["vocab"] |= moved
    for token in data["added_tokens"]:
        token["id"] = moved[token["content"]]
    for name, index in moved.items():
        data["post_processor"]["special_tokens"][name]["ids"] = [index]
    path.write_text(json.dumps(data))


@pytest.mark.parametrize("form", ["safetensors", "bin", "sharded"])
def test_a_clip_on_the_hub_segments_without_training(served: Hub, tmp_path: Path, form: str):
    folder = clip_repository(served.root / "models/openai/clip-vit-base-patch16", form)
    local = python(SEGMENT, folder, hub=served, cache=tmp_path / "cache")
    assert local.returncode == 0, local.stderr
    assert not served.asked, "a folder needs no network"
    fetched = python(SEGMENT, "clip-vit-b-16", hub=served, cache=tmp_path / "cache")
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout == local.stdout
    by_id = python(SEGMENT, "openai/clip-vit-base-patch16", hub=served, cache=tmp_path / "cache", HF_HUB_OFFLINE="1")
    assert by_id.stdout == local.stdout, by_id.stderr


def test_openais_file_takes_the_tokenizer_beside_it_or_the_hubs(served: Hub, tmp_path: Path):
    clip = clip_repository(served.root / "models" / PUBLISHED["clip-vit-b-16"].clip, "safetensors")
    torch.save(formats.openai_state(formats.small_clip(words=600, context=40)), tmp_path / "ViT.pt")
    expected = python(SEGMENT, clip, hub=served, cache=tmp_path / "cache").stdout
    fetched = python(SEGMENT, tmp_path / "ViT.pt", hub=served, cache=tmp_path / "cache")
    assert fetched.stdout == expected, fetched.stderr
    (tmp_path / "tokenizer.json").write_bytes((clip / "tokenizer.json").read_bytes())
    asked = len(served.asked)
    assert python(SEGMENT, tmp_path / "ViT.pt", hub=served, cache=tmp_path / "other").stdout == expected
    assert len(served.asked) == asked


def catseg_checkpoint(path: Path, seed: int = 0) -> Path:
    """A small baseline in the published form: detectron2's file with the official names, some of it in 16 bit."""
    import catseg_formats

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": catseg_formats.official_state(seed, words=600, context=40), "iteration": 80_000}, path)
    return path


def test_cat_seg_is_fetched_converted_once_and_remembered(served: Hub, tmp_path: Path):
    space = served.root / "spaces" / CATSEG_SPACE
    checkpoint = catseg_checkpoint(space / "model_base.pth")
    clip_repository(served.root / "models" / PUBLISHED["cat-seg-b"].clip, "safetensors")
    cache = tmp_path / "cache"
    first = python(SEGMENT, "cat-seg-b", hub=served, cache=cache)
    assert first.returncode == 0, first.stderr
    folder = cache / "disa/models/cat-seg-b"
    assert {p.name for p in folder.iterdir()} == {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert not list(folder.parent.glob(".*")), "nothing half-written stays"
    card = (folder / "README.md").read_text()
    remembered = json.loads((cache / "disa/sha256.json").read_text())[f"{CATSEG_SPACE}/model_base.pth"]
    assert COMMIT in card and remembered in card and "MIT" in card
    asked = len(served.asked)
    assert python(SEGMENT, "cat-seg-b", hub=served, cache=cache).stdout == first.stdout
    assert len(served.asked) == asked, "the converted model needs no network"
    # by hand the same comes out
    done = disa("convert", "cat-seg", checkpoint, tmp_path / "own", hub=served, cache=cache)
    assert done.returncode == 0, done.stderr
    assert python(SEGMENT, tmp_path / "own", hub=served, cache=cache).stdout == first.stdout
    assert read_config(tmp_path / "own") == read_config(folder)


def test_another_file_under_the_same_name_is_refused(served: Hub, tmp_path: Path):
    checkpoint = catseg_checkpoint(served.root / "spaces" / CATSEG_SPACE / "model_base.pth")
    clip_repository(served.root / "models" / PUBLISHED["cat-seg-b"].clip, "safetensors")
    assert python(LOAD, "cat-seg-b", hub=served, cache=tmp_path / "cache").returncode == 0
    catseg_checkpoint(checkpoint, seed=1)
    for folder in ("disa/models", "hf"):
        subprocess.run(["rm", "-r", tmp_path / "cache" / folder], check=True)
    words = ["segment", __file__, "-l", "house", "--out", tmp_path / "out", "--model", "cat-seg-b"]
    again = disa(*words, hub=served, cache=tmp_path / "cache")
    assert again.returncode == 2
    assert "when it was first used" in again.stderr and "sha256.json" in again.stderr
    assert not (tmp_path / "cache/disa/models/cat-seg-b").exists()


def test_a_damaged_download_leaves_nothing_in_the_cache(served: Hub, tmp_path: Path):
    checkpoint = catseg_checkpoint(served.root / "spaces" / CATSEG_SPACE / "model_base.pth")
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    clip_repository(served.root / "models" / PUBLISHED["cat-seg-b"].clip, "safetensors")
    words = ["evaluate", "picturebook", "--limit", 1, "--model", "cat-seg-b"]
    failed = disa(*words, hub=served, cache=tmp_path / "cache")
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1
    assert "model_base.pth: damaged" in failed.stderr
    assert not list((tmp_path / "cache/disa/models").iterdir())


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [("cat-seg-l", f"{CATSEG_SPACE}/model_large.pth"), ("clip-vit-b-16", "openai/clip-vit-base-patch16/config.json")],
)
def test_without_a_network_the_error_says_what_where_and_what_to_do(tmp_path: Path, name: str, looked_for: str):
    nowhere = Hub(tmp_path, "http://127.0.0.1:9")  # nobody listens there
    words = ["segment", __file__, "-l", "house", "--out", tmp_path / "out", "--model", name]
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        failed = disa(*words, hub=nowhere, cache=tmp_path / "cache", **more)
        assert failed.returncode == 2, failed.stderr
        assert failed.stderr.count("\n") == 1 and failed.stderr.startswith("error: ")
        for part in (looked_for, str(tmp_path / "cache/hf"), nowhere.address, "give its path"):
            assert part in failed.stderr


def test_names_that_are_nowhere_are_refused_in_one_line(served: Hub, tmp_path: Path):
    (served.root / "models/someone/else").mkdir(parents=True)
    for name, message in (
        ("someone/nothing", "neither a folder here nor a repository"),
        ("someone/else", "has none of config.json"),
        ("disa-vit-l-14", "nobody published weights of DiSa"),
        ("maxi", "cat-seg-b, cat-seg-l"),
    ):
        words = ["segment", __file__, "-l", "house", "--out", tmp_path / "out", "--model", name]
        failed = disa(*words, hub=served, cache=tmp_path / "cache")
        assert failed.returncode == 2 and failed.stderr.count("\n") == 1 and message in failed.stderr, failed.stderr


def test_a_model_pushed_to_the_hub_comes_back_bitwise(served: Hub, tmp_path: Path, model_folder: Path):
    push = "import disa, sys; print(disa.load(sys.argv[1], 'cpu').push_to_hub('someone/model', token='hf_x'))"
    pushed = python(push, model_folder, hub=served, cache=tmp_path / "cache")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.strip().endswith(COMMIT)
    there = {path.name for path in (served.root / "models/someone/model").iterdir()}
    assert there >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    expected = python(SEGMENT, model_folder, hub=served, cache=tmp_path / "cache").stdout
    assert expected
    assert python(SEGMENT, "someone/model", hub=served, cache=tmp_path / "cache").stdout == expected


def test_the_bare_model_goes_to_the_hub_and_back(served: Hub, tmp_path: Path, model_folder: Path):
    code = """
import disa, sys, torch
model = disa.Disa.from_pretrained(sys.argv[1])
model.push_to_hub("someone/bare", token="hf_x")
again = disa.Disa.from_pretrained("someone/bare")
assert again.config == model.config
assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
"""
    done = python(code, model_folder, hub=served, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert "library_name: disa" in (served.root / "models/someone/bare/README.md").read_text()
    assert Disa.from_pretrained(served.root / "models/someone/bare").config.disentangle
