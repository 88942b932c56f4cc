"""The tokenizer of a dual encoder: read, made what it was in training, and checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers, processors

from disa.errors import DisaError
from disa.model.encoders import SIGLIP, encoder_config, kind_of
from disa.weights.tensor_files import first_line

AGAIN = "copy the model folder again"
# Configurations of OpenAI's CLIP name this id; transformers then takes the highest id as the end.
LEGACY_END = 2
PADDING = "<pad>"
END = "<eos>"


def encoder_tokenizer(path: Path, clip: Mapping[str, Any]) -> Tokenizer:
    """Read the tokenizer of the encoder that `backbone_clip` describes.

    Raises `DisaError` if the file is missing, damaged or another model's.
    """
    text = encoder_config(clip).text_config
    if kind_of(clip) != SIGLIP:
        return load_tokenizer(path, text.eos_token_id, text.vocab_size)

    # Published configurations name CLIP's end, which is not SigLIP's.
    tokenizer = _read(path, is_siglip=True)
    _check(path, tokenizer, tokenizer.token_to_id(END), text.vocab_size)
    return tokenizer


def load_tokenizer(path: Path, end_id: int, vocabulary: int) -> Tokenizer:
    """Read the tokenizer of a CLIP that knows `vocabulary` tokens and ends texts with `end_id`.

    Raises `DisaError` if the file is missing, damaged or another model's.
    """
    tokenizer = _read(path, is_siglip=False)
    _check(path, tokenizer, vocabulary - 1 if end_id == LEGACY_END else end_id, vocabulary)
    return tokenizer


def _read(path: Path, is_siglip: bool) -> Tokenizer:
    if not path.is_file():
        raise DisaError(f"{path}: no such file; copy the whole model folder")
    try:
        tokenizer = Tokenizer.from_file(str(path))
        # The text encoder pads and checks lengths itself; a file may ask for either.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if is_siglip:
            _make_siglip(path, tokenizer)
        tokenizer.encode("a")
    except (KeyboardInterrupt, SystemExit, DisaError):
        raise
    # The tokenizers library raises plain `Exception`; a panic of its Rust is not even that.
    except BaseException as error:
        raise DisaError(f"{path}: is not a tokenizer ({first_line(error)}); {AGAIN}") from None
    return tokenizer


def _make_siglip(path: Path, tokenizer: Tokenizer) -> None:
    """Make a tokenizer do what SigLIP 2's did in training, whatever its file says (decision D162).

    Texts are in lower case and end with a token of their own. Raises `DisaError` for another
    model's tokenizer.
    """
    end = tokenizer.token_to_id(END)
    if tokenizer.token_to_id(PADDING) != 0 or end is None:
        raise DisaError(
            f"{path}: is not SigLIP 2's tokenizer, which pads with {PADDING}, 0, and ends texts "
            f"with {END}; the first SigLIP's models are not read"
        )
    if tokenizer.encode("A").ids != tokenizer.encode("a").ids:
        own = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, end)]
    )


def _check(path: Path, tokenizer: Tokenizer, end_id: int | None, vocabulary: int) -> None:
    """Raise `DisaError` for more tokens than the model knows, and for another end."""
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vocabulary:
        raise DisaError(
            f"{path}: has token {highest}, the model knows {vocabulary} tokens; "
            "is it another model's?"
        )
    last = tokenizer.encode("a").ids[-1:]
    if last != [end_id]:
        raise DisaError(
            f"{path}: ends texts with token {last}, the model expects {end_id}; "
            "is it another model's?"
        )
