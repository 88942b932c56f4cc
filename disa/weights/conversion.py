"""Other people's checkpoints -> model folders that `disa.load` reads.

All is checked before anything is written.
"""

import os
import shutil
from pathlib import Path

import torch

from disa.errors import DisaError
from disa.model.disa import Disa
from disa.running.files import prepare_folder
from disa.weights.catseg import catseg_config, from_catseg, unpack
from disa.weights.model_card import Source
from disa.weights.model_folder import save
from disa.weights.tokenizer_file import load_tokenizer
from disa.weights.torch_file import read_torch_file


def convert_catseg(
    checkpoint: Path, out: Path, tokenizer: Path, source: Source, must_fit: bool = True
) -> DisaError | None:
    """Write the model folder `out` from a CAT-Seg checkpoint and CLIP's `tokenizer.json`.

    The folder appears whole or not at all. A tokenizer that does not fit the text tower is an
        error, or, unless it
    `must_fit`, left out: the reason is returned then. Raises `DisaError` naming the file and every
        tensor that is
    missing, left over or of another shape; for a file with code in it; if `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DisaError(f"{out}: exists already; choose another folder, or delete it")
    model = read_catseg(checkpoint)
    text = model.backbone.clip.config.text_config
    words, unfit = None, None
    try:
        words = load_tokenizer(tokenizer, text.eos_token_id, text.vocab_size)
    except DisaError as error:
        if must_fit:
            raise
        unfit = error
    prepare_folder(out.parent)
    draft = out.with_name(f".{out.name[:100]}.{os.getpid()}.part")
    try:
        save(model, draft, tokenizer=words, source=source)
        if out.exists():
            out.rmdir()  # empty, or this fails
        draft.rename(out)
    except OSError as error:
        raise DisaError(
            f"{out}: cannot be written ({error.strerror}); choose another folder"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return unfit


def read_catseg(checkpoint: Path) -> Disa:
    """Return the baseline with a CAT-Seg checkpoint's weights, for evaluation, in 32 bit."""
    held = read_torch_file(checkpoint)
    try:
        official = unpack(held)
        config = catseg_config(official)
        with torch.device("meta"):
            model = Disa(config)
        model.load_state_dict(from_catseg(official, model.state_dict()), assign=True)
    except DisaError as error:
        raise DisaError(f"{checkpoint}: {error}") from None
    model.backbone.restore_buffers()
    return model.eval()
