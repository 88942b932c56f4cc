"""Models from the Hub, through the real client, against a hub on loopback."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import catseg_formats
import clip_formats as formats
import numpy as np
import pytest
import torch
from command_line import invoke
from fake_hub import COMMIT, Hub, hub
from safetensors.torch import load_file

import disa
from disa.errors import DisaError
from disa.weights import model_folder as model_folders
from disa.weights.model_folder import read_config
from disa.weights.names import CATSEG_SPACE, CLIP_TOKENIZER
from disa.weights.tokenizer import load_tokenizer

FULL = {"words": 49_408, "context": 77}  # CLIP's own text tower reads
PICTURE = np.arange(3 * 40 * 50, dtype=np.uint8).reshape(40, 50, 3)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    with hub(tmp_path / "hub") as served:
        yield served


def scores(model: object) -> np.ndarray:
    """What a model of that name says, as everybody calls it."""
    return disa.load(str(model), "cpu")(PICTURE, ["a", "b"], scores=True).scores


def clip_repository(folder: Path, form: str) -> Path:
    """A small CLIP with CLIP's own words and tokenizer, as a transformers folder."""
    formats.write_folder(formats.small_clip(**FULL), folder, form)
    shutil.copyfile(CLIP_TOKENIZER, folder / "tokenizer.json")
    return folder


@pytest.mark.parametrize("form", ["safetensors", "bin", "sharded"])
def test_a_clip_on_the_hub_segments_without_training(
    served: Hub, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
):
    folder = clip_repository(served.root / "models/openai/clip-vit-base-patch16", form)
    served.use(monkeypatch, tmp_path)
    expected = scores(folder)
    assert not served.asked, "a folder needs no network"
    np.testing.assert_array_equal(scores("clip-vit-b-16"), expected)
    assert served.asked
    served.use(monkeypatch, tmp_path, offline=True)
    np.testing.assert_array_equal(scores("openai/clip-vit-base-patch16"), expected)
    assert expected.std() > 0


def test_openais_weights_with_another_activation_are_refused(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    served.use(monkeypatch, tmp_path)
    folder = clip_repository(served.root / "models/openai/clip-vit-base-patch16", "safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "gelu"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DisaError, match=r"config\.json: says gelu, but OpenAI trained"):
        disa.load("clip-vit-b-16", "cpu")
    assert disa.load(folder, "cpu")  # somebody's own CLIP may well use it


def test_openais_file_takes_clips_own_tokenizer_or_the_one_beside_it(
    tmp_path: Path, model_folder: Path
):
    clip = clip_repository(tmp_path / "clip", "safetensors")
    torch.save(formats.openai_state(formats.small_clip(**FULL)), tmp_path / "ViT.pt")
    np.testing.assert_array_equal(scores(tmp_path / "ViT.pt"), scores(clip))
    shutil.copyfile(model_folder / "tokenizer.json", tmp_path / "tokenizer.json")
    with pytest.raises(DisaError, match="ends texts with token"):
        scores(tmp_path / "ViT.pt")


def catseg_checkpoint(path: Path, seed: int = 0) -> Path:
    """A small baseline in detectron2's file with the official names, some of it in 16 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": catseg_formats.official_state(seed, **FULL), "iteration": 80_000}, path)
    return path


@pytest.fixture
def space(served: Hub) -> Path:
    """CAT-Seg's Space with a small model_base.pth."""
    return catseg_checkpoint(served.root / "spaces" / CATSEG_SPACE / "model_base.pth")


@pytest.mark.slow
def test_cat_seg_is_fetched_converted_once_and_remembered(
    served: Hub, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"
    served.use(monkeypatch, cache)
    first = scores("cat-seg-b")
    folder = cache / "disa/models/cat-seg-b"
    assert {p.name for p in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert not list(folder.parent.glob(".*")), "nothing half-written stays"
    card = (folder / "README.md").read_text()
    remembered = json.loads((cache / "disa/sha256.json").read_text())[
        f"{CATSEG_SPACE}/model_base.pth"
    ]
    assert COMMIT in card and remembered in card and "MIT" in card
    asked = len(served.asked)
    np.testing.assert_array_equal(scores("cat-seg-b"), first)
    assert len(served.asked) == asked, "the converted model needs no network"
    # by hand, from the command line, the same comes out
    done = invoke("convert", "cat-seg", space, tmp_path / "own")
    assert done.exit_code == 0, done.stderr
    assert remembered in done.stdout
    np.testing.assert_array_equal(scores(tmp_path / "own"), first)
    assert read_config(tmp_path / "own") == read_config(folder)


@pytest.mark.slow
def test_two_first_uses_at_once_share_one_model(served: Hub, space: Path, tmp_path: Path):
    cache = tmp_path / "cache"
    code = "import disa; disa.load('cat-seg-b', 'cpu')"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | served.environment(cache),
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    models = cache / "disa" / "models"
    assert [path.name for path in models.iterdir()] == ["cat-seg-b"]


def test_a_lock_that_is_none_is_one_line(
    served: Hub, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    served.use(monkeypatch, tmp_path)
    lock = tmp_path / "disa" / ".lock"
    lock.mkdir(parents=True)
    with pytest.raises(DisaError, match=re.escape(str(lock))):
        disa.load("cat-seg-b", "cpu")


def test_another_file_under_the_same_name_is_refused(
    served: Hub, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"
    served.use(monkeypatch, cache)
    disa.load("cat-seg-b", "cpu")
    catseg_checkpoint(space, seed=1)
    shutil.rmtree(cache / "hf")
    shutil.rmtree(cache / "disa/models")
    with pytest.raises(DisaError, match=r"when it was first used.*sha256\.json"):
        disa.load("cat-seg-b", "cpu")
    assert not (cache / "disa/models/cat-seg-b").exists()
    (cache / "disa/sha256.json").write_text("{")
    with pytest.raises(DisaError, match=r"sha256\.json.*delete it"):
        disa.load("cat-seg-b", "cpu")


def test_a_damaged_download_leaves_nothing_in_the_cache(
    served: Hub, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    served.use(monkeypatch, tmp_path / "cache")
    space.write_bytes(space.read_bytes()[:5000])
    words = ["segment", __file__, "-l", "house", "--out", tmp_path / "out", "--model", "cat-seg-b"]
    failed = invoke(*words)
    assert failed.exit_code == 2
    assert "model_base.pth: damaged" in failed.stderr.splitlines()[-1]
    assert not list((tmp_path / "cache/disa/models").iterdir())


def test_without_a_network_the_error_says_what_where_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    nowhere = Hub(tmp_path, "http://127.0.0.1:9")  # nobody listens there
    nowhere.use(monkeypatch, tmp_path / "cache")
    words = ["segment", __file__, "-l", "house", "--out", tmp_path / "out"]
    invoke(*words, "--model", "clip-vit-b-16").fails(
        "openai/clip-vit-base-patch16/config.json",
        tmp_path / "cache" / "hf",
        nowhere.address,
        "tokenizer.json",
        "model.safetensors",
    )
    nowhere.use(monkeypatch, tmp_path / "cache", offline=True)
    with pytest.raises(DisaError) as refused:
        disa.load("cat-seg-l", "cpu")
    for part in (
        f"{CATSEG_SPACE}/model_large.pth: not in the cache",
        f"https://huggingface.co/spaces/{CATSEG_SPACE}/resolve/main/model_large.pth",
        "disa convert cat-seg model_large.pth",
    ):
        assert part in str(refused.value)


def test_names_that_are_nowhere_are_refused_in_one_line(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (served.root / "models/someone/else").mkdir(parents=True)
    served.use(monkeypatch, tmp_path)
    for name, message in (
        ("someone/nothing", "neither a folder here nor a repository"),
        ("someone/else", r"has none of config\.json"),
        ("disa-vit-l-14", "nobody published weights of DiSa"),
        ("maxi", "cat-seg-b, cat-seg-l"),
    ):
        with pytest.raises(DisaError, match=message) as caught:
            disa.load(name, "cpu")
        assert "\n" not in str(caught.value)


def test_a_model_pushed_to_the_hub_comes_back_bitwise(
    served: Hub, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    served.use(monkeypatch, tmp_path)
    url = disa.load(model_folder, "cpu").push_to_hub("someone/model", token="hf_x")
    assert url.endswith(COMMIT)
    there = {path.name for path in (served.root / "models/someone/model").iterdir()}
    assert there >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    np.testing.assert_array_equal(scores("someone/model"), scores(model_folder))


def test_the_network_alone_comes_back_from_the_hub(
    served: Hub, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    served.use(monkeypatch, tmp_path)
    segmenter = disa.load(model_folder, "cpu")
    segmenter.push_to_hub("someone/bare", token="hf_x")
    again = disa.load("someone/bare", "cpu").model
    assert again.config == segmenter.model.config
    pairs = zip(segmenter.model.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(pushed, fetched) for pushed, fetched in pairs)
    assert "library_name: disa" in (served.root / "models/someone/bare/README.md").read_text()


@pytest.mark.slow
def test_a_saved_folder_gives_bitwise_the_same_in_a_fresh_process(
    tmp_path: Path, model_folder: Path
):
    segmenter = disa.load(model_folder, "cpu")
    segmenter.save_pretrained(tmp_path / "again")
    np.save(tmp_path / "picture.npy", PICTURE)
    code = """
import disa, numpy, sys
folder, picture, out = sys.argv[1:]
numpy.save(out, disa.load(folder, "cpu")(numpy.load(picture), ["a", "b"], scores=True).scores)
"""
    files = [tmp_path / "again", tmp_path / "picture.npy", tmp_path / "scores.npy"]
    subprocess.run([sys.executable, "-c", code, *map(str, files)], check=True, timeout=300)
    np.testing.assert_array_equal(
        np.load(tmp_path / "scores.npy"), segmenter(PICTURE, ["a", "b"], scores=True).scores
    )


def test_a_checkpoint_with_words_of_its_own_needs_its_tokenizer(tmp_path: Path, model_folder: Path):
    torch.save(catseg_formats.official_state(words=60), tmp_path / "small.pth")
    words = ["convert", "cat-seg", str(tmp_path / "small.pth"), str(tmp_path / "out")]
    refused = invoke(words)
    assert refused.exit_code == 2
    assert "has token 49407, the model knows 60 tokens" in refused.stderr
    assert not (tmp_path / "out").exists()
    occupied = invoke([*words[:-1], str(model_folder)])
    assert occupied.exit_code == 2 and str(model_folder) in occupied.stderr


def test_an_interrupted_conversion_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    checkpoint = catseg_checkpoint(tmp_path / "model.pth")
    with monkeypatch.context() as patch:
        patch.setattr(model_folders, "write_json", interrupted)
        assert invoke("convert", "cat-seg", checkpoint, tmp_path / "out").exit_code == 130
    assert list(tmp_path.iterdir()) == [checkpoint]
    assert invoke("convert", "cat-seg", checkpoint, tmp_path / "out").exit_code == 0


def test_checkpoints_that_do_not_fit_are_refused_by_the_tensors_name(tmp_path: Path):
    state = catseg_formats.official_state(words=60)
    name = "sem_seg_head.predictor.transformer.layers.1.attention.MLP.0.weight"
    path, out = tmp_path / "m.pth", tmp_path / "out"
    for changed, message in (
        (
            {key: value for key, value in state.items() if key != name},
            r"missing refine\.levels\.1\.category\.attention\.mlp",
        ),
        (state | {"criterion.weight": torch.zeros(3)}, r"left over criterion\.weight"),
        (
            state | {name: state[name][:5]},
            r"layers\.1\.attention\.MLP\.0\.weight has shape \(5, 16\), expected",
        ),
        ({"state": 3}, "'state', which is no tensor"),
        ([1, 2], "holds no tensors by name"),
        (state | {name: "text"}, "is no tensor"),
        (
            {key: value for key, value in state.items() if "conv1.weight" not in key},
            r"lacks .*conv1\.weight",
        ),
    ):
        torch.save(changed, path)
        failed = invoke(["convert", "cat-seg", str(path), str(out)])
        assert failed.exit_code == 2 and failed.stderr.count("\n") == 1, failed.output
        assert re.search(message, failed.stderr), failed.stderr
        assert list(tmp_path.iterdir()) == [path]


def test_clips_tokenizer_gives_the_published_ids():
    golden = Path(__file__).parents[1] / "golden" / "catseg"
    tokenizer = load_tokenizer(CLIP_TOKENIZER, 49_407, 49_408)
    for name in ("padded", "pruned"):
        facts = json.loads((golden / name / "meta.json").read_text())["config"]
        expected = load_file(golden / name / "io.safetensors")["in.tokens_official"]
        prompts = [
            facts["template"].replace("{}", words.split(", ")[0]) for words in facts["class_names"]
        ]
        rows = [encoding.ids for encoding in tokenizer.encode_batch(prompts)]
        assert [row + [0] * (77 - len(row)) for row in rows] == expected.tolist()
