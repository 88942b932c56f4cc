"""Where a model lies: a name, a folder, a file or a Hub id becomes a path.

Published models are fetched from the Hub once. CLIPs stay in the Hub's own cache. CAT-Seg's
checkpoints are converted into model folders of ours.
"""

import errno
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import (
    constants,
    errors,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from transformers import CLIPConfig

from disa.errors import DisaError
from disa.running.drafts import remove_folder
from disa.running.files import (
    at_home,
    cache_folder,
    file_sha256,
    prepare_folder,
    write_json,
)
from disa.running.locks import hold
from disa.running.reading import read_json
from disa.weights.catseg import convert_catseg
from disa.weights.clip_files import read_clip_config, weight_parts
from disa.weights.model_card import Source
from disa.weights.names import (
    CLIP_TOKENIZER,
    CONFIG,
    PARTS,
    PUBLISHED,
    TOKENIZER,
    UNPUBLISHED,
    WHOLE,
    Published,
    bundled_models,
    is_clip,
    missing_files,
)

LICENCE = "see the repository; the code of CAT-Seg is under the MIT licence"
PUBLIC_HUB = "https://huggingface.co"
CONNECTING = 3  # seconds
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# The disk refuses: it is full, or the folder is not the user's.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def model_folder(name_or_folder: str | PathLike[str]) -> Path:
    """Return where a model lies, after fetching it from the Hub if need be.

    A bundled name goes first, then what exists on disk ("./mini" is a folder), then published
    names, then Hub ids. A folder is disa's or a CLIP's in transformers' form. Raises `DisaError`
    for an unknown name, a folder that lacks a file of a model, and a Hub that cannot be reached.
    """
    name = fspath(name_or_folder)
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    # What the user has on disk goes before what a network could bring under the same name.
    path = at_home(name)
    # `Path.is_dir` raises on names that are too long.
    if os.path.isdir(path):  # noqa: PTH112
        if missing := missing_files(path):
            raise DisaError(f"{path}: is not a model folder, it lacks {', '.join(missing)}")
        return path
    if os.path.isfile(path):  # noqa: PTH113
        return path
    if name in UNPUBLISHED:
        raise DisaError(
            f"{name}: nobody published weights of DiSa; train them (disa train "
            f"{UNPUBLISHED[name]}, docs/training.md), or use its baseline cat-seg-b or cat-seg-l"
        )
    if name in PUBLISHED:
        published = PUBLISHED[name]
        if published.checkpoint is None:
            return _fetch_folder(published.repository)
        return _converted(name, published)
    if HUB_ID.fullmatch(name):
        return _fetch_folder(name)
    raise DisaError(
        f'unknown model "{name}"; models that come with disa: {", ".join(bundled)}; published '
        f"ones: {', '.join(PUBLISHED)}; or give a model folder or a Hub id such as "
        "openai/clip-vit-base-patch16"
    )


def is_here(name: str) -> bool:
    """Tell whether a published model is on this disk, and so works without a network."""
    published = PUBLISHED[name]
    if published.checkpoint is not None:
        return (_converted_folder(name) / CONFIG).is_file()
    kept = (try_to_load_from_cache(published.repository, file) for file in (*WHOLE, *PARTS))
    return any(isinstance(path, str) for path in kept)


def hub_answers() -> bool:
    """Tell at once whether the Hub can be reached."""
    return _answers(constants.ENDPOINT)


def fetch(repository: str, *files: str, kind: str = "model", remedy: str = "give its path") -> Path:
    """Return the first of `files` that the repository has, as a path in the Hub's cache.

    Without a network, the first that is in the cache. `kind` is "model" or "space"; `remedy` is
    what to do with a file from elsewhere. Raises `DisaError` that says what was looked for, where,
    and what to do.
    """
    place = f"{repository}/{files[0]}"
    unreachable = False
    offline = not hub_answers()
    for file in files:
        try:
            with _quiet_hub():
                return Path(
                    hf_hub_download(repository, file, repo_type=kind, local_files_only=offline)
                )
        except errors.RemoteEntryNotFoundError:
            continue
        except errors.GatedRepoError:
            raise DisaError(
                f"{place}: needs permission; ask for it on {constants.ENDPOINT}, then "
                "`hf auth login`"
            ) from None
        except (
            errors.RepositoryNotFoundError,
            errors.RevisionNotFoundError,
            errors.HFValidationError,
        ) as error:
            raise DisaError(
                f"{repository}: neither a folder here nor a repository at {constants.ENDPOINT} "
                f"({type(error).__name__}); check the name, and `hf auth login` if it is private"
            ) from None
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise DisaError(
                    f"{place}: cannot be kept in {constants.HF_HUB_CACHE} ({error.strerror}); free "
                    "space, or set HF_HOME to another folder"
                ) from None
            # The next of the files may be in the cache.
            unreachable = True
    if unreachable:
        address = hf_hub_url(repository, files[0], repo_type=kind, endpoint=PUBLIC_HUB)
        raise DisaError(
            f"{place}: not in the cache {constants.HF_HUB_CACHE}, and {constants.ENDPOINT} cannot "
            f"be reached; connect to a network once, or get {address} elsewhere and {remedy}"
        )
    raise DisaError(f"{repository}: has none of {', '.join(files)}; it is no model that disa reads")


def _fetch_folder(repository: str) -> Path:
    remedy = f"put it into a folder with {TOKENIZER} and {WHOLE[0]}, whose path is a model"
    folder = fetch(repository, CONFIG, remedy=remedy).parent
    # Of OpenAI's own CLIPs the activation is known, and another one gives wrong numbers silently.
    if repository.startswith("openai/") and is_clip(folder):
        clip = CLIPConfig(**read_clip_config(folder))
        for tower in (clip.text_config, clip.vision_config):
            if tower.hidden_act != "quick_gelu":
                raise DisaError(
                    f"{folder / CONFIG}: says {tower.hidden_act}, but OpenAI trained {repository} "
                    "with quick_gelu; correct it, or every number is wrong"
                )
    fetch(repository, TOKENIZER)
    weights = fetch(repository, *WHOLE, *PARTS)
    if weights.name in PARTS:
        for part in weight_parts(weights):
            fetch(repository, part)
    return folder


def _converted_folder(name: str) -> Path:
    return cache_folder() / "models" / name


def _converted(name: str, published: Published) -> Path:
    """Return the folder of a checkpoint of CAT-Seg, converted on first use."""
    folder = _converted_folder(name)
    # This file is written last, so it tells that the others are there.
    if (folder / CONFIG).is_file():
        return folder
    prepare_folder(folder.parent)
    # Of several first uses one converts, and the others wait for it. The list of checksums is one
    # for all models.
    with hold(cache_folder() / ".lock", patience=-1.0, busy=""):
        if not (folder / CONFIG).is_file():
            _convert(published, name, folder)
    return folder


def _convert(published: Published, name: str, folder: Path) -> None:
    """Fetch a checkpoint of CAT-Seg and convert it into a model folder."""
    assert published.checkpoint is not None
    remedy = f"`disa convert cat-seg {published.checkpoint} FOLDER`, then --model FOLDER"
    checkpoint = fetch(published.repository, published.checkpoint, kind="space", remedy=remedy)
    sha256 = file_sha256(checkpoint)
    place = f"{published.repository}/{published.checkpoint}"
    _remember(place, sha256)

    # The Hub's cache keeps each commit's files in a folder of its own.
    source = Source(
        title=f"CAT-Seg ({name})",
        place=f"{place} (Space on the Hugging Face Hub)",
        licence=LICENCE,
        sha256=sha256,
        revision=checkpoint.parent.name,
    )
    # Half a folder is what an older version of disa may have left behind.
    remove_folder(folder)
    convert_catseg(checkpoint, folder, CLIP_TOKENIZER, source)


def _remember(file: str, sha256: str) -> None:
    """Record a file's sha256 on first use. Raises `DisaError` if it was another one before."""
    # The authors publish no checksums, so the first download is the one that counts.
    path = cache_folder() / "sha256.json"
    known = {}
    if path.is_file():
        remedy = "delete it, and the files will be trusted anew"
        known = read_json(path, remedy, dict[str, str])
    if known.setdefault(file, sha256) != sha256:
        raise DisaError(
            f"{file}: has sha256 {sha256}, but {known[file]} when it was first used; if its "
            f"authors replaced it, delete its line in {path}"
        )
    write_json(path, known)


def _answers(endpoint: str) -> bool:
    """Tell at once whether a Hub can be connected to: its client tries for half a minute."""
    address = urlsplit(endpoint)
    # Behind a proxy only the client can tell.
    if getproxies().get(address.scheme) or address.hostname is None:
        return True
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname, port), CONNECTING).close()
    except OSError:
        return False
    return True


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keep the library's log of every attempt off the terminal; one error says what failed."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
