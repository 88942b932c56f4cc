import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import invoke
from refusals import refused
from safetensors.torch import load_file, save_file
from small_run import new_learner, small_config, small_settings, train

import disa
from disa.picturebook import NOUNS
from disa.recipes import RECIPES
from disa.training import run_folder
from disa.training.augment import Sample
from disa.training.batches import Batch
from disa.training.engine import open_engine
from disa.training.initial_weights import InitialWeights, tokenizer_for
from disa.training.learner import Learner
from disa.training.run_folder import checkpoints
from disa.training.run_log import read_log
from disa.training.settings import TrainConfig
from disa.training.training_data import DrawnScenes, Picturebook, Samples
from disa.weights.model_folder import load_disa
from disa.weights.tokenizer import load_tokenizer

CONFIG, SETTINGS = small_config(), small_settings()
FP32 = ("--set", "precision=fp32")  # what every CPU computes
SHORT = (
    *("--steps", "2", "--batch", "1", "--evaluate-images", "0", "--workers", "0", *FP32),
    *("--device", "cpu"),
)


def losses(out: Path) -> list[tuple[float, float]]:
    return [
        (record["step"], record["loss"])
        for record in read_log(out / "log.jsonl")
        if "loss" in record
    ]


@pytest.fixture(scope="module")
def reference(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("reference")
    train(CONFIG, SETTINGS, out, clip_folder)
    return out


def test_a_run_learns_logs_and_leaves_a_model(reference: Path) -> None:
    logged = losses(reference)
    assert [step for step, _ in logged] == list(range(6))
    assert logged[-1][1] < logged[0][1]
    assert [path.name for path in checkpoints(reference / "checkpoints")] == [
        "step-00000004",
        "step-00000006",
    ]
    result = disa.load(reference / "model", device="cpu")(
        torch.zeros(3, 40, 40, dtype=torch.uint8), "house, sea"
    )
    assert result.labels.shape == (40, 40)


def test_number_of_workers_does_not_change_the_losses(
    reference: Path, clip_folder: Path, tmp_path: Path
) -> None:
    train(CONFIG, replace(SETTINGS, workers=2), tmp_path, clip_folder)
    assert losses(tmp_path) == losses(reference)


DYING = """
import os, signal, sys, torch
from pathlib import Path
from small_run import small_config, small_settings, train
from disa.training import run_folder
torch.set_num_threads(1)
save = run_folder.save_file
def dying_save(tensors, path):
    if "00000004" in str(path):
        path.write_bytes(b"the first few bytes")
        os.kill(os.getpid(), signal.SIGKILL)
    save(tensors, path)
run_folder.save_file = dying_save
train(small_config(), small_settings(), Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_run_killed_in_the_middle_of_a_file_goes_on_bit_by_bit(
    reference: Path, clip_folder: Path, tmp_path: Path
) -> None:
    """Between files, tests/faults kills it."""
    out = tmp_path / "run"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", DYING, out, clip_folder],
        check=False, capture_output=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in checkpoints(out / "checkpoints")] == ["step-00000002"]
    assert losses(out) == losses(reference)[:4]
    train(CONFIG, SETTINGS, out, clip_folder, resume=True)
    assert losses(out) == losses(reference)
    assert same_weights(out, reference)


def same_weights(first: Path, second: Path) -> bool:
    one, other = (load_file(out / "model" / "model.safetensors") for out in (first, second))
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(
    number: signal.Signals,
    reference: Path,
    clip_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = Learner.step

    def interrupted(self: Learner, index: int, batch: Any) -> dict[str, float]:
        if index == 2:
            signal.raise_signal(number)
        return step(self, index, batch)

    handlers = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", interrupted)
        stopped = train(CONFIG, SETTINGS, tmp_path, clip_folder)
    assert stopped is None
    assert "stopped after step 3" in capsys.readouterr().err
    assert checkpoints(tmp_path / "checkpoints")[-1].name == "step-00000003"
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == handlers
    train(CONFIG, SETTINGS, tmp_path, clip_folder, resume=True)
    assert losses(tmp_path) == losses(reference)
    assert same_weights(tmp_path, reference)


@pytest.mark.slow
class Broken(DrawnScenes):
    """Scenes that cannot be drawn."""

    def __getitem__(self, index: int) -> Sample:
        raise RuntimeError("no scene")


class BrokenData(Picturebook):
    def samples(self, settings: TrainConfig, size: int) -> Samples:
        return Broken(settings, size)


@pytest.mark.slow
def test_an_error_in_a_process_that_draws_scenes_ends_all_of_them(
    clip_folder: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=100, workers=2)
    # A kept traceback keeps what its frames hold.
    with pytest.raises(RuntimeError, match="no scene") as kept:
        train(CONFIG, settings, tmp_path, clip_folder, data=BrokenData())
    assert kept.traceback
    assert multiprocessing.active_children() == []


def test_a_loss_that_is_no_number_stops_and_keeps_the_batch(
    reference: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = Learner.gradients

    def failing(self: Learner, step: int, batch: Any) -> dict[str, float]:
        losses = gradients(self, step, batch)
        return losses | ({"total": torch.nan} if step == 3 else {})

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "gradients", failing)
        file = tmp_path / "failed-step-00000003-process-0.safetensors"
        with refused("step 3", "loss nan", file):
            train(CONFIG, SETTINGS, tmp_path, clip_folder)
    assert load_file(file)["pixels"].shape == (2, 3, 32, 32)
    train(CONFIG, SETTINGS, tmp_path, clip_folder, resume=True)
    assert losses(tmp_path) == losses(reference)


def test_disk_full_at_a_checkpoint_loses_nothing_that_was_there(
    reference: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = run_folder.save_file

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if "00000004" in str(path):
            path.write_bytes(b"the first few bytes")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save_file", full)
        with refused("step-00000004", "No space left on device"):
            train(CONFIG, SETTINGS, tmp_path, clip_folder)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == ["step-00000002"]
    train(CONFIG, SETTINGS, tmp_path, clip_folder, resume=True)
    assert losses(tmp_path) == losses(reference)


def another_clip(clip: Path, folder: Path) -> Path:
    """Return a CLIP of the same shape with other weights."""
    shutil.copytree(clip, folder)
    weights = {
        name: value + 0.01 for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.slow
def test_resuming_something_else_is_refused(
    reference: Path, clip_folder: Path, tmp_path: Path
) -> None:
    with refused(reference, "--resume", "--out"):
        train(CONFIG, SETTINGS, reference, clip_folder)
    with refused("lr=0.001"):
        train(CONFIG, replace(SETTINGS, lr=0.5), reference, clip_folder, resume=True)
    with refused("loss_itm_weight"):
        train(CONFIG.replace(loss_itm_weight=0.5), SETTINGS, reference, clip_folder, resume=True)
    other = Path(shutil.copytree(clip_folder, tmp_path / "words"))
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text + " ")
    with refused("tokenizer", "--clip"):
        train(CONFIG, SETTINGS, reference, other, resume=True)
    with refused("weights", "--clip"):
        other = another_clip(clip_folder, tmp_path / "clip")
        train(CONFIG, SETTINGS, reference, other, resume=True)
    with refused("--clip", "--init"):
        train(CONFIG, SETTINGS, tmp_path)
    # A checkpoint such as that of `disa pretrain-clip`.
    stranger = run_folder.Checkpoint({"a": torch.zeros(1)}, {"step": 1})
    path = run_folder.write_checkpoint(tmp_path / "other" / "checkpoints", stranger)
    with refused(path, "--out"):
        train(CONFIG, SETTINGS, tmp_path / "other", clip_folder, resume=True)


def test_averaged_weights_are_what_is_kept(
    reference: Path, clip_folder: Path, tmp_path: Path
) -> None:
    train(CONFIG, replace(SETTINGS, ema=0.5), tmp_path, clip_folder)
    assert losses(tmp_path) == losses(reference)
    final = run_folder.read_checkpoint(checkpoints(tmp_path / "checkpoints")[-1]).tensors
    model = load_file(tmp_path / "model" / "model.safetensors")
    name = (
        "cost.embed.weight"
        if "cost.embed.weight" in model
        else next(n for n in model if n.startswith("cost."))
    )
    assert torch.equal(model[name], final[f"ema.{name}"])
    assert not torch.equal(model[name], final[f"model.{name}"])


def test_bf16_trains(reference: Path, clip_folder: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, precision="bf16", steps=2)
    train(CONFIG, settings, tmp_path, clip_folder)
    first, plain = losses(tmp_path)[0][1], losses(reference)[0][1]
    assert first == pytest.approx(plain, rel=0.1)
    assert first != plain
    assert (
        torch.tensor(first).bfloat16().item() != first
    )  # the loss itself is computed in full precision


@pytest.mark.parametrize("are_told", [True, False])
def test_things_train_where_the_data_tell_them(
    are_told: bool, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Picturebook()
    if not are_told:
        data.things = None
    with open_engine(SETTINGS, "cpu") as engine:
        clip = InitialWeights(clip_folder)
        learner = Learner(small_config(things=True), SETTINGS, clip, engine, data)
        pixels = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        numbers = learner.step(0, Batch(pixels, torch.zeros(1, 32, 32, dtype=torch.int64)))
    assert ("things" in numbers) == are_told
    assert any(name.startswith("things.") for name in learner.trained) == are_told
    assert ("classes.json" in capsys.readouterr().err) != are_told


def test_a_baseline_grows_into_disa(clip_folder: Path, tmp_path: Path) -> None:
    parts = {"disentangle": False, "refine_category_reweight": False, "refine_semantic": False}
    short = replace(SETTINGS, steps=2)
    train(small_config(**parts), short, tmp_path / "baseline", clip_folder)
    with open_engine(short, "cpu") as engine:
        baseline = InitialWeights(init=tmp_path / "baseline" / "model")
        grown = Learner(CONFIG, short, baseline, engine, Picturebook())
        grown.export(tmp_path / "grown", grown.finished()[0])
    baseline = load_disa(tmp_path / "baseline" / "model")
    pixels, text = (
        torch.rand(1, 3, 32, 32) * 255,
        torch.nn.functional.normalize(torch.randn(3, 1, 32), dim=-1),
    )
    with torch.no_grad():
        expected, found = baseline(pixels, text), grown.model.eval()(pixels, text)
    assert torch.allclose(expected.logits, found.logits, atol=1e-5)
    with refused(tmp_path / "grown", "saliency"):
        train(small_config(**parts), short, tmp_path / "back", init=tmp_path / "grown")


@pytest.mark.parametrize("mode", ["frozen", "qv"])
def test_text_has_a_gradient_if_its_tower_trains(mode: str, clip_folder: Path) -> None:
    with open_engine(SETTINGS, "cpu") as engine:
        run = new_learner(small_config(backbone_finetune=mode), SETTINGS, clip_folder, engine)
        pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
        run.gradients(0, Batch(pixels, torch.randint(0, 22, (2, 32, 32))))
        named = dict(run.model.named_parameters())
        assert (
            named["backbone.clip.text_model.encoder.layers.0.self_attn.q_proj.weight"].grad
            is not None
        ) == (mode == "qv")
        expected = run.finished()[1](run.data.labels)
        prompts = run.prompts
        embedded = run.model.encode_text(prompts.ids.flatten(0, 1))
        assert torch.allclose(embedded.unflatten(0, prompts.ids.shape[:2]), expected, atol=1e-6)
    assert (prompts.embeddings is not None) == (mode == "frozen")


def test_evaluation_on_the_way_is_logged_and_changes_nothing(
    reference: Path, clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(SETTINGS, evaluate_every=3, evaluate_images=2)
    train(CONFIG, settings, tmp_path, clip_folder)
    assert losses(tmp_path) == losses(reference)
    measured = [record for record in read_log(tmp_path / "log.jsonl") if "evaluation" in record]
    assert [record["step"] for record in measured] == [2, 5]
    assert 0 <= measured[-1]["evaluation"]["miou"] <= 100
    lines = capsys.readouterr().err
    assert lines.count("mIoU") == 2


def test_command_trains_a_recipe(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("disa.interfaces.train_command.RECIPES", {"mini": small_config})
    words = ["train", "mini", "--clip", str(clip_folder), *SHORT, "--out", str(tmp_path)]
    result = invoke([*words, "--set", "saliency_split=relative"])
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "model") in result.output
    assert load_disa(tmp_path / "model").config.saliency_split == "relative"
    assert disa.load(tmp_path / "model", device="cpu").text(NOUNS).shape == (len(NOUNS), 1, 32)


def test_a_dry_run_needs_no_clip(tmp_path: Path) -> None:
    result = invoke(["train", "mini", "--clip", "random", *SHORT, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    disa.load(tmp_path / "model", device="cpu")
    with refused("--clip random", 600):
        tokenizer_for(CONFIG)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_the_tokenizer_of_its_clip(recipe: str) -> None:
    config = RECIPES[recipe]()
    text = config.backbone_clip["text_config"]
    if recipe.startswith("siglip"):
        with refused("--clip random", text["vocab_size"]):
            tokenizer_for(config)  # SigLIP's comes with its weights
        return
    words = load_tokenizer(tokenizer_for(config), text["eos_token_id"], text["vocab_size"])
    assert max(words.get_vocab().values()) + 1 == text["vocab_size"]
    assert (
        words.encode("a house").ids[-1] == words.encode("the sea").ids[-1]
    )  # both end with its end


def test_interrupted_command_exits_with_130_and_goes_on(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("disa.interfaces.train_command.RECIPES", {"mini": small_config})
    step = Learner.step

    def interrupted(self: Learner, index: int, batch: Any) -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        return step(self, index, batch)

    words = ["train", "mini", "--clip", str(clip_folder), *SHORT, "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", interrupted)
        assert invoke(words).exit_code == 130
    stopped = invoke([*words, "--no-resume"])
    assert (stopped.exit_code, "--resume" in stopped.output) == (2, True)
    assert invoke(words).exit_code == 0
    assert [step for step, _ in losses(tmp_path)] == [0, 1]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")]
)
def test_too_little_memory_in_a_step_says_what_to_change(
    error: RuntimeError, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise error

    monkeypatch.setattr(Learner, "step", full)
    with refused("out of memory", "--micro-batch"):
        train(CONFIG, SETTINGS, tmp_path, clip_folder)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ("huge --clip x", '"huge"'),
        ("mini --clip no-such-folder", "no-such-folder"),
        ("mini", "--clip"),
        ("mini --init mini --seed 100000000000000000000", "seed=100000000000000000000: "),
        ("mini --init mini --set precision=fp16 --device cpu", "precision=fp16"),
        ("mini --set nothing=1", "--set nothing=1"),
        ("mini --set nothing", "--set nothing"),
        ("mini --init mini --set cost_channels=0", "--set"),
        ("mini --init mini --set disentangle_heads=3", "--set"),
        ("mini --init mini --set refine_window=0", "--set"),
        ("mini --init mini --set decode_channels=50,20", "--set"),
        ("mini --init mini --set max_categories=0", "--set"),
        ("mini --init mini --set scale_jitter=9 --set backbone_image_size=480", "480 to 4800"),
        ("mini --init mini --batch 1000000000", "batch=1000000000: "),
    ],
)
def test_bad_input_is_one_line(options: str, fact: str, tmp_path: Path) -> None:
    words = options.split()
    words += [] if "--device" in words else FP32
    result = invoke(["train", *words, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert fact in result.output
    assert len(result.output.strip().splitlines()) == 1
