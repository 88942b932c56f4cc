import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import disa
from disa.evaluation.picturebook import GROUPS, Failure, best_labels, evaluate
from disa.evaluation.report import table
from disa.interfaces.typer_cli import app
from disa.model.disa import Prediction
from disa.picturebook import TEST_SEED, WORDS, render

SIZE = 48


class Knowing(nn.Module):
    """Recognises the test scene by its pixels and gives the truth; category `wrong` is always taken for the next."""

    def __init__(self, scenes: int, wrong: int | None = None) -> None:
        super().__init__()
        self.scenes = [render(TEST_SEED, index, SIZE) for index in range(scenes)]
        self.wrong = wrong

    def forward(self, pixels: Tensor, text: Tensor) -> Prediction:
        logits = torch.full((len(pixels), len(WORDS), SIZE, SIZE), -5.0)
        for row, image in enumerate(pixels):
            scene = next(
                s
                for s in self.scenes
                if (image == torch.from_numpy(s.image).permute(2, 0, 1)).all()
            )
            labels = torch.from_numpy(scene.labels).long()
            if self.wrong is not None:
                labels[labels == self.wrong] = (self.wrong + 1) % len(WORDS)
            logits[row].scatter_(0, labels[None], 5.0)
        return Prediction(logits, None, None, None)


def test_the_truth_gets_full_marks() -> None:
    numbers = evaluate(Knowing(7), torch.zeros(len(WORDS), 1, 4), scenes=7, size=SIZE, batch=3)
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "fwiou"):
        assert numbers[name] == pytest.approx(100)
    assert numbers["boundary_iou"]["all"] == 100
    assert {value for value in numbers["groups"].values() if value is not None} == {100}
    assert numbers["itm_auc"] is numbers["saliency_ap"] is numbers["foreground_iou"] is None


def test_one_category_missed_costs_what_it_should_and_its_scenes_are_the_worst() -> None:
    scenes = [render(TEST_SEED, index, SIZE) for index in range(7)]
    word = next(
        word for word in scenes[4].words if sum(word in scene.words for scene in scenes) == 1
    )
    worst: list[Failure] = []
    model = Knowing(7, WORDS.index(word))
    numbers = evaluate(
        model, torch.zeros(len(WORDS), 1, 4), scenes=7, size=SIZE, batch=3, worst=worst, keep=3
    )
    assert numbers["per_class"][word]["iou"] == 0
    assert numbers["miou"] < 100
    assert worst[0].number == 4
    assert len(worst) == 3
    assert worst[0].miou < worst[1].miou == worst[2].miou == 1
    assert WORDS[worst[0].scene.labels.min()] in WORDS


def test_batches_do_not_change_the_numbers_and_the_segmenter_agrees(model_folder: Path) -> None:
    segmenter = disa.load(model_folder, device="cpu")
    text = segmenter.text(WORDS)
    size = segmenter.model.config.backbone_image_size
    one, three = (
        evaluate(segmenter.model, text, scenes=5, size=size, batch=batch) for batch in (1, 3)
    )
    assert one["miou"] == pytest.approx(
        three["miou"], abs=0.05
    )  # an untrained model is full of ties
    assert one["itm_auc"]["all"] == pytest.approx(three["itm_auc"]["all"], abs=1e-3)
    scene = render(TEST_SEED, 3, size)
    with torch.inference_mode():
        logits = segmenter.model(
            torch.from_numpy(scene.image.transpose(2, 0, 1).copy())[None].float(), text
        ).logits
    agreement = (
        best_labels(logits, size)[0].numpy() == segmenter(scene.image, WORDS).labels
    ).mean()
    assert agreement > 0.999  # but for ties in the last bit


def test_command_writes_all_keys_and_the_worst_scenes(model_folder: Path, tmp_path: Path) -> None:
    file, worst = tmp_path / "numbers" / "mini.json", tmp_path / "worst"
    words = [
        "evaluate",
        "picturebook",
        "--model",
        str(model_folder),
        "--limit",
        "3",
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(app, [*words, "--json", str(file), "--save-worst", str(worst)])
    assert result.exit_code == 0, result.output
    assert "mIoU %" in result.output
    numbers = json.loads(file.read_text())
    assert 0 <= numbers["miou"] <= 100
    assert 0 <= numbers["pixel_accuracy"] <= 100
    assert tuple(numbers["groups"]) == GROUPS
    assert set(numbers["per_class"]) == set(WORDS)
    for name in (
        "mean_accuracy",
        "fwiou",
        "boundary_iou",
        "itm_auc",
        "saliency_ap",
        "split_iou",
        "foreground_iou",
    ):
        assert name in numbers
    for name in ("weights_sha256", "command", "versions", "date", "commit"):
        assert name in numbers
    assert len(list(worst.glob("*_truth.png"))) == len(list(worst.glob("*_prediction.png"))) == 3
    assert Image.open(next(worst.glob("*.png"))).width > SIZE


def test_command_measures_clip_alone(model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "floor.json"
    words = [
        "evaluate",
        "picturebook",
        "--model",
        str(model_folder),
        "--limit",
        "2",
        "--dense-clip",
    ]
    result = CliRunner().invoke(app, [*words, "--json", str(file), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    numbers = json.loads(file.read_text())
    assert numbers["dense_clip"] is True
    assert numbers["itm_auc"] is None
    assert numbers["groups"].keys() == set(GROUPS)


def test_table_of_a_model_without_the_sdm() -> None:
    numbers = evaluate(Knowing(2), torch.zeros(len(WORDS), 1, 4), scenes=2, size=SIZE)
    assert table(numbers, "title").row_count == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "cityscapes"], "unknown data set"),
        (["evaluate", "picturebook", "--model", "no-such"], "unknown model"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1
