"""Make the small tokenizer of a CLIP trained from scratch: byte-level BPE in the style of CLIP's own.

Any text can be encoded: words that no caption held fall apart into bytes.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from disa.errors import DisaError

START, END = "<|startoftext|>", "<|endoftext|>"
_LAST = "</w>"  # ends the last piece of a word
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # words, single digits, runs of signs


def train_tokenizer(captions: Iterable[str], size: int) -> Tokenizer:
    """Return a tokenizer with at most `size` entries, 514 at least; ids 0 and 1 are start and end of text."""
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # BPE drops what it does not know, without a word: every byte is known, also as the last of a word
    entries = [START, END, *alphabet, *(byte + _LAST for byte in alphabet)]
    texts = (normalizer.normalize_str(caption) for caption in captions)
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    merges = learn_merges(words, size - len(entries))
    entries += [left + right for left, right in merges]
    vocabulary = {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=_LAST))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    tokenizer.add_special_tokens([START, END])
    return tokenizer


def learn_merges(words: Mapping[str, int], most: int) -> list[tuple[str, str]]:
    """Return at most `most` merges of byte-pair encoding: the commonest pair first, until none occurs twice.

    The library's own trainer breaks ties, and numbers the entries, in a different order in every process (tokenizers
    0.23), so that no seed would make a CLIP again.
    """
    pieces = {word: (*word[:-1], word[-1] + _LAST) for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        counts: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                counts[pair] += words[word]
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merges.append(best)
        pieces = {word: _merged(parts, best) for word, parts in pieces.items()}
    return merges


def _merged(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def caption_ids(tokenizer: Tokenizer, captions: list[str], context: int) -> Int[Tensor, "m l"]:
    """Return the captions' token ids, padded with 0 to `context`. Raises `DisaError` for one that is longer."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(captions)]
    if (longest := max(map(len, rows))) > context:
        raise DisaError(
            f"context={context}: a caption has {longest} tokens; choose a longer context"
        )
    return torch.tensor([row + [0] * (context - len(row)) for row in rows])


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write `tokenizer.json`, and the `tokenizer_config.json` that transformers reads. Raises `DisaError`."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": START, "eos_token": END, "pad_token": END,
        "model_max_length": context,
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise DisaError(f"{folder}: cannot be written ({error.strerror})") from error
