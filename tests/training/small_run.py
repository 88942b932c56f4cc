"""A network small enough to train in a test, and the settings of such runs."""

from pathlib import Path
from typing import Any

import torch

from disa.config import ModelConfig
from disa.model.clip import ClipBackbone
from disa.pretraining.byte_pairs import save_tokenizer, train_tokenizer
from disa.recipes import mini
from disa.training import loop
from disa.training.engine import Engine
from disa.training.initial_weights import InitialWeights
from disa.training.learner import Learner
from disa.training.run_folder import RunFolder
from disa.training.settings import TrainConfig
from disa.training.training_data import Picturebook, TrainingData


def small_config(**changes: Any) -> ModelConfig:
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "projection_dim": 32,
    }
    clip = {
        "projection_dim": 32,
        "text_config": tower
        | {
            "num_hidden_layers": 1,
            "vocab_size": 600,
            "max_position_embeddings": 32,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        "vision_config": tower | {"num_hidden_layers": 3, "patch_size": 8, "image_size": 32},
    }
    fields = {
        "backbone_clip": clip, "backbone_image_size": 32, "backbone_guidance_blocks": (0, 1),
        "backbone_templates": ("a {}",), "cost_channels": 8, "cost_kernel": 3, "saliency_heads": 2,
        "disentangle_heads": 2, "refine_levels": 1, "refine_heads": 2, "refine_window": 2,
        "refine_guidance_channels": 8, "decode_channels": (8, 8), "decode_guidance_source": (8, 8),
        "decode_guidance_channels": (4, 4), "decode_detail_channels": 0,
        "saliency_trains": "all",
        "decode_enlarge": False, "things": False,
    }  # fmt: skip
    return mini(**fields | changes)


def save_clip(folder: Path) -> Path:
    """Write the small network's CLIP, with random weights, and a tokenizer; return the folder."""
    torch.manual_seed(0)
    ClipBackbone(small_config()).clip.save_pretrained(folder)
    save_tokenizer(train_tokenizer(["a picture of a house by the sea"] * 30, 600), folder, 32)
    return folder


def small_settings(**changes: Any) -> TrainConfig:
    fields = {
        "steps": 6,
        "batch": 2,
        "warmup": 2,
        "lr": 1e-3,
        "clip_lr_scale": 0.1,
        "clip_norm": 1.0,
        "log_every": 1,
        "checkpoint_every": 2,
        "evaluate_images": 0,
        "workers": 0,
        "categories": 12,
        "colour_jitter": False,
    }
    return TrainConfig(**fields | changes)


def train(
    config: ModelConfig,
    settings: TrainConfig,
    out: Path,
    clip: Path | None = None,
    init: Path | None = None,
    data: TrainingData | None = None,
    resume: bool = False,
) -> Path | None:
    weights = InitialWeights(clip, init)
    data = data or Picturebook()
    return loop.train(config, settings, weights, data, RunFolder(out), resume, "cpu")


def new_learner(config: ModelConfig, settings: TrainConfig, clip: Path, engine: Engine) -> Learner:
    return Learner(config, settings, InitialWeights(clip), engine, Picturebook())
