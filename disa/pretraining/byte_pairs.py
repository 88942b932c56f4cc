"""The small tokenizer of a CLIP trained from scratch: byte-level BPE in the style of CLIP's own.

Any text can be encoded: words that no caption holds fall apart into bytes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from disa.errors import DisaError
from disa.running.files import prepare_folder, write_bytes, write_json

START, END = "<|startoftext|>", "<|endoftext|>"
_LAST = "</w>"  # ends the last piece of a word
# Words, single digits, runs of signs.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(captions: Iterable[str], size: int) -> Tokenizer:
    """Return a tokenizer with at most `size` entries, 514 at least.

    Ids 0 and 1 are the start and the end of a text.
    """
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words_of = pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True)
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splitter = pre_tokenizers.Sequence([words_of, bytes_of])

    # BPE silently drops what it does not know: every byte is an entry, also as the end of a word.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [START, END, *alphabet, *(byte + _LAST for byte in alphabet)]
    texts = (normalizer.normalize_str(caption) for caption in captions)
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    merges = learn_merges(words, size - len(entries))
    entries += [left + right for left, right in merges]

    # Two merges can give the same entry; the first one has the id.
    vocabulary = {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=_LAST))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    tokenizer.add_special_tokens([START, END])
    return tokenizer


def learn_merges(words: Mapping[str, int], most: int) -> list[tuple[str, str]]:
    """Return at most `most` merges of byte-pair encoding, for words with their counts.

    The commonest pair comes first, until none occurs twice; of equally common ones, the first in
    the alphabet. The library's own trainer breaks ties differently in every process (tokenizers
    0.23), so that no seed would reproduce a CLIP.
    """
    # Each word in the pieces that it has so far; at first in characters.
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
    # From left to right, as the tokenizer applies a merge.
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def caption_ids(tokenizer: Tokenizer, captions: list[str], context: int) -> Int[Tensor, "m l"]:
    """Return the captions' token ids, padded with 0 to `context`.

    Raises `DisaError` for a caption that is longer.
    """
    rows = [encoding.ids for encoding in tokenizer.encode_batch(captions)]
    longest = max(len(row) for row in rows)
    if longest > context:
        raise DisaError(
            f"context={context}: a caption has {longest} tokens; choose a longer context"
        )
    return torch.tensor([row + [0] * (context - len(row)) for row in rows])


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write `tokenizer.json`, and the `tokenizer_config.json` that transformers reads.

    Raises `DisaError` if the disk refuses.
    """
    prepare_folder(folder)
    text = tokenizer.to_str(pretty=True).encode()
    write_bytes(folder / "tokenizer.json", text)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "model_max_length": context,
    }
    write_json(folder / "tokenizer_config.json", settings)
