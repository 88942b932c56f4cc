"""What a run starts from: a CLIP folder, or a whole model's folder.

Signature: (ModelConfig, CLIP folder | model folder) -> (Disa, TextEncoder, the folder).
"""

import shutil
from pathlib import Path

from disa.config import ModelConfig
from disa.errors import DisaError
from disa.inference.text import TextEncoder, load_tokenizer
from disa.model.disa import Disa

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def start_model(config: ModelConfig, clip: Path | None, init: Path | None) -> tuple[Disa, TextEncoder, Path]:
    """Return the model with the weights of `clip` (head at random) or of `init`, its words' encoder, and the folder.

    Either folder decides `config.backbone_clip`. Parts that a model folder lacks (the SDM of a baseline, say) start at
    random. Raises `DisaError` for folders that do not fit.
    """
    if clip is not None and init is None:
        model, folder = Disa.from_clip(config, clip), clip
    elif init is not None and clip is None:
        model, folder = _from_model(config, init), init
    else:
        raise DisaError("training starts from one folder: --clip (`disa pretrain-clip` makes one) or --init (a model)")
    text = model.backbone.clip.config.text_config
    return (
        model,
        TextEncoder(model, load_tokenizer(folder / "tokenizer.json", text.eos_token_id, text.vocab_size)),
        folder,
    )


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer's files into a model folder."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _from_model(config: ModelConfig, folder: Path) -> Disa:
    trained = Disa.from_pretrained(folder)
    model = Disa(config.replace(backbone_clip=trained.config.backbone_clip))
    try:
        _, unknown = model.load_state_dict(trained.state_dict(), strict=False)
    except RuntimeError as error:
        raise DisaError(f"{folder}: is of another size: {str(error).splitlines()[-1].strip()}") from None
    if unknown:
        raise DisaError(f"{folder}: holds parts that this recipe lacks, such as {unknown[0]}; choose another recipe")
    return model
