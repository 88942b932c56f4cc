"""What a run starts from: a CLIP, or a whole model's folder.

Signature: (ModelConfig, CLIP | model folder) -> (Disa, TextEncoder, the tokenizer's file).
"""

import hashlib
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.inference.text import TextEncoder
from disa.model.disa import Disa
from disa.running.provenance import weights_sha256
from disa.weights.clip_files import read_clip_config
from disa.weights.load import disa_on_clip
from disa.weights.model_folder import load_disa, read_config
from disa.weights.names import WEIGHTS
from disa.weights.tokenizer_file import CLIP_TOKENIZER, load_tokenizer, tokenizer_beside

RANDOM = Path("random")  # in place of a CLIP: a dry run of a recipe whose weights are not at hand
BUNDLED_TOKENIZER = WEIGHTS / "mini" / "tokenizer.json"


def start_model(
    config: ModelConfig, clip: Path | None, init: Path | None
) -> tuple[Disa, TextEncoder, Path]:
    """Return the model with the weights of `clip` (head at random) or of `init`, its words' encoder, the tokenizer.

    `clip` is whatever `clip_files.load_clip` reads, `init` a model folder; either decides `config.backbone_clip`. Parts
    that a model folder lacks (the SDM of a baseline, say) start at random. `RANDOM` in place of a CLIP leaves the
    recipe's as random as the head, with the tokenizer of its like. Raises `DisaError` for what does not fit.
    """
    if clip == RANDOM and init is None:
        try_out(config)
        model, tokenizer = Disa(config), tokenizer_for(config)
    elif clip is not None and init is None:
        try_out(config.replace(backbone_clip=read_clip_config(clip)))
        model, tokenizer = disa_on_clip(config, clip), _tokenizer_of(clip)
    elif init is not None and clip is None:
        try_out(config.replace(backbone_clip=read_config(init).backbone_clip))
        model, tokenizer = _from_model(config, init), _tokenizer_of(init)
    else:
        raise DisaError(
            "training starts from one of two: --clip (`disa pretrain-clip` makes one) or --init (a model)"
        )
    text = model.backbone.clip.config.text_config
    words = load_tokenizer(tokenizer, text.eos_token_id, text.vocab_size)
    return model, TextEncoder(model, words), tokenizer


def start_identity(clip: Path | None, init: Path | None, tokenizer: Path) -> dict[str, str]:
    """Return what tells what a run began from from others: checksums of its weights (or "random") and its tokenizer."""
    source = clip or init
    weights = str(RANDOM) if source in (None, RANDOM) else weights_sha256(source)
    return {"weights": weights, "tokenizer": hashlib.sha256(tokenizer.read_bytes()).hexdigest()}


def _tokenizer_of(source: Path) -> Path:
    return tokenizer_beside(source) if source.is_file() else source / "tokenizer.json"


def tokenizer_for(config: ModelConfig) -> Path:
    """Return the tokenizer with as many tokens as the recipe's CLIP: OpenAI's or the bundled model's."""
    count = config.backbone_clip["text_config"]["vocab_size"]
    for path in (CLIP_TOKENIZER, BUNDLED_TOKENIZER):
        if max(Tokenizer.from_file(str(path)).get_vocab().values()) + 1 == count:
            return path
    raise DisaError(
        f"--clip random: no tokenizer has the {count} tokens of this recipe's CLIP; name a CLIP"
    )


def try_out(config: ModelConfig) -> None:
    """Build the network on the meta device and send a picture through it: nothing is computed, no memory is taken.

    Raises `DisaError` for numbers that fit no network, whichever they are, before any weights are read.
    """
    try:
        with torch.device("meta"):
            model = Disa(config).train()
            side, prompts = config.backbone_image_size, len(config.backbone_templates)
            model(
                torch.empty(1, 3, side, side),
                torch.empty(2, prompts, model.backbone.embedding_width),
            )
    except DisaError:
        raise
    except Exception as error:  # torch, einops and transformers raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise DisaError(
            f"no network has these settings ({reason}); change the last --set, or the CLIP's config.json"
        ) from None


def copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    """Copy the tokenizer, and the settings beside it that transformers reads, into a model folder."""
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    if (settings := tokenizer.with_name("tokenizer_config.json")).is_file():
        shutil.copyfile(settings, folder / settings.name)


def _from_model(config: ModelConfig, folder: Path) -> Disa:
    trained = load_disa(folder)
    model = Disa(config.replace(backbone_clip=trained.config.backbone_clip))
    try:
        _, unknown = model.load_state_dict(trained.state_dict(), strict=False)
    except RuntimeError as error:
        raise DisaError(
            f"{folder}: is of another size: {str(error).splitlines()[-1].strip()}"
        ) from None
    if unknown:
        raise DisaError(
            f"{folder}: holds parts that this recipe lacks, such as {unknown[0]}; choose another recipe"
        )
    return model
