"""Published models, fetched from the Hub once: name or Hub id -> folder.

CLIPs stay in the Hub's own cache. CAT-Seg's checkpoints are converted once into ours; the sha256 of a checkpoint is
recorded when it is first seen, and another file under the same name is refused from then on.
"""

import json
import os
from pathlib import Path

from transformers import CLIPConfig

from disa.errors import DisaError
from disa.running.files import file_sha256, prepare_folder, write_whole
from disa.weights.clip_files import PARTS, WHOLE, is_clip_folder, read_clip_config
from disa.weights.conversion import convert_catseg
from disa.weights.hub import commit_of, fetch_first
from disa.weights.model_card import Source
from disa.weights.names import FILES, PUBLISHED, Published
from disa.weights.tokenizer_file import CLIP_TOKENIZER

LICENCE = "see the repository; the code of CAT-Seg is under the MIT licence"


def cache_folder() -> Path:
    """Return where converted models are kept: $DISA_CACHE, else `disa` in the user's cache folder."""
    if own := os.environ.get("DISA_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "disa"


def fetch_model(name: str) -> Path:
    """Return the folder of a published model's name or of a repository on the Hub.

    Raises `DisaError` if there is no network and nothing in the cache, or if the repository is no model of ours.
    """
    entry = PUBLISHED.get(name)
    if entry is not None and entry.checkpoint is not None:
        return _converted(name, entry)
    return _fetch_folder(name if entry is None else entry.repository)


def _fetch_folder(repository: str) -> Path:
    folder = fetch_first(repository, ("config.json",)).parent
    if not is_clip_folder(folder):
        for file in FILES:
            fetch_first(repository, (file,))
        return folder
    if repository.startswith("openai/"):
        _check_activation(repository, folder)
    fetch_first(repository, ("tokenizer.json",))
    weights = fetch_first(repository, (*WHOLE, *PARTS))
    if weights.name in PARTS:
        for part in sorted(set(json.loads(weights.read_text())["weight_map"].values())):
            fetch_first(repository, (part,))
    return folder


def _check_activation(repository: str, folder: Path) -> None:
    """Refuse a configuration that would run OpenAI's weights with another activation: wrong numbers, and no error."""
    clip = CLIPConfig(**read_clip_config(folder))
    for tower in (clip.text_config, clip.vision_config):
        if tower.hidden_act != "quick_gelu":
            raise DisaError(
                f"{folder / 'config.json'}: says {tower.hidden_act}, but OpenAI trained {repository} with quick_gelu; "
                "mend it, or its numbers are silently wrong"
            )


def _converted(name: str, entry: Published) -> Path:
    """Return the folder of a checkpoint of CAT-Seg, converted on first use."""
    folder = cache_folder() / "models" / name
    if (folder / "config.json").is_file():
        return folder
    assert entry.checkpoint is not None
    prepare_folder(folder.parent)
    checkpoint = fetch_first(entry.repository, (entry.checkpoint,), kind="space")
    place = f"{entry.repository}/{entry.checkpoint} (Space on the Hugging Face Hub)"
    source = Source(
        f"CAT-Seg ({name})", place, LICENCE, file_sha256(checkpoint), commit_of(checkpoint)
    )
    _remember(f"{entry.repository}/{entry.checkpoint}", source.sha256)
    convert_catseg(checkpoint, folder, CLIP_TOKENIZER, source)
    return folder


def _remember(file: str, sha256: str) -> None:
    """Record a file's sha256 on first use. Raises `DisaError` if it was another one before."""
    path = cache_folder() / "sha256.json"
    try:
        known = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError:
        raise DisaError(f"{path}: damaged; delete it, and the files will be trusted anew") from None
    if known.setdefault(file, sha256) != sha256:
        raise DisaError(
            f"{file}: has sha256 {sha256}, but {known[file]} when it was first used; if its authors replaced it, "
            f"delete its line in {path}"
        )
    write_whole(path, lambda out: out.write(json.dumps(known, indent=1, sort_keys=True).encode()))
