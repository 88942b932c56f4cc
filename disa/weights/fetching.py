"""Published models, fetched from the Hub once: name or Hub id -> folder.

CLIPs stay in the Hub's own cache. CAT-Seg's checkpoints are converted once into ours; the sha256 of
a checkpoint is recorded when it is first seen, and another file under the same name is refused from
then on.
"""

import json
import os
from os import PathLike, fspath
from pathlib import Path

from transformers import CLIPConfig

from disa.errors import DisaError
from disa.running.files import file_sha256, prepare_folder, write_whole
from disa.weights.clip_files import PARTS, WHOLE, is_clip_folder, read_clip_config
from disa.weights.conversion import convert_catseg
from disa.weights.hub import commit_of, fetch_first, is_hub_id
from disa.weights.model_card import Source
from disa.weights.names import FILES, PUBLISHED, UNPUBLISHED, Published, models
from disa.weights.tokenizer_file import CLIP_TOKENIZER

LICENCE = "see the repository; the code of CAT-Seg is under the MIT licence"


def model_folder(name_or_folder: str | PathLike[str]) -> Path:
    """Return where a model lies, after fetching it from the Hub if need be.

    A bundled name goes first, then what exists on disk ("./mini" is a folder), then published
    names, then Hub ids. A folder is disa's or a CLIP's in transformers' form. Raises `DisaError`
    for an unknown name, a folder that lacks a file of a model, and a Hub that cannot be reached.
    """
    name = fspath(name_or_folder)
    known = {entry.name: entry.folder for entry in models()}
    if name in known:
        return known[name]
    path = Path(name)
    if path.is_dir():
        return _checked(path)
    if path.is_file():
        return path
    if name in UNPUBLISHED:
        raise DisaError(
            f"{name}: nobody published weights of DiSa; train them (disa train "
            f"{UNPUBLISHED[name]}, docs/training.md), "
            "or use its baseline cat-seg-b or cat-seg-l"
        )
    if name in PUBLISHED or is_hub_id(name):
        return fetch_model(name)
    names = ", ".join(known) or "none, the weights are missing"
    raise DisaError(
        f'unknown model "{name}"; models that come with disa: {names}; published ones: '
        f"{', '.join(PUBLISHED)}; "
        "or give a model folder or a Hub id such as openai/clip-vit-base-patch16"
    )


def _checked(folder: Path) -> Path:
    weights = (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    )
    there = {FILES[0]: any((folder / file).is_file() for file in weights)}
    there |= {file: (folder / file).is_file() for file in FILES[1:]}
    if missing := [file for file, found in there.items() if not found]:
        raise DisaError(f"{folder}: is not a model folder, it lacks {', '.join(missing)}")
    return folder


def cache_folder() -> Path:
    """Return where converted models are kept: $DISA_CACHE, else the user's cache folder."""
    if own := os.environ.get("DISA_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "disa"


def fetch_model(name: str) -> Path:
    """Return the folder of a published model's name or of a repository on the Hub.

    Raises `DisaError` if there is no network and nothing in the cache, or if the repository is no
    model of ours.
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
    """Refuse another activation than OpenAI's weights had: wrong numbers, and no error."""
    clip = CLIPConfig(**read_clip_config(folder))
    for tower in (clip.text_config, clip.vision_config):
        if tower.hidden_act != "quick_gelu":
            raise DisaError(
                f"{folder / 'config.json'}: says {tower.hidden_act}, but OpenAI trained "
                f"{repository} with quick_gelu; "
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
            f"{file}: has sha256 {sha256}, but {known[file]} when it was first used; if its "
            "authors replaced it, "
            f"delete its line in {path}"
        )
    write_whole(path, lambda out: out.write(json.dumps(known, indent=1, sort_keys=True).encode()))
