"""Files from the Hugging Face Hub, kept in its own cache. `(repository, file) -> local path`"""

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from disa.errors import DisaError

Kind = Literal["model", "space"]


class Unreachable(DisaError):
    """A file is not in the cache, and there is no network to get it from."""


_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_id(name: str) -> bool:
    """Tell whether a name could be a repository's, "openai/clip-vit-base-patch16"."""
    return _ID.fullmatch(name) is not None


def fetch(
    repository: str, file: str, *, kind: Kind = "model", revision: str | None = None, **options: Any
) -> Path:
    """Return the file's path in the Hub's cache, after downloading it if need be.

    `options` go to `huggingface_hub.hf_hub_download`. Raises `DisaError` that names repository and
        file, where they
    were looked for, and what to do; `FileNotFoundError` if the repository is there and lacks the
        file.
    """
    from huggingface_hub import constants, errors, hf_hub_download

    what = f"{repository}/{file}"
    try:
        with _quiet():
            return Path(
                hf_hub_download(repository, file, repo_type=kind, revision=revision, **options)
            )
    except errors.GatedRepoError:
        raise DisaError(
            f"{what}: needs permission; ask for it on {constants.ENDPOINT}, then `hf auth login`"
        ) from None
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.HFValidationError,
    ) as error:
        asked = f" at revision {revision}" if revision else ""
        raise DisaError(
            f"{repository}{asked}: neither a folder here nor a repository at {constants.ENDPOINT} "
            f"({type(error).__name__}); check the name, and `hf auth login` if it is private"
        ) from None
    except errors.RemoteEntryNotFoundError:
        raise FileNotFoundError(what) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"cannot be kept in {constants.HF_HUB_CACHE} ({error.strerror})"
            raise DisaError(
                f"{what}: {reason}; free space, or set HF_HOME to another folder"
            ) from None
        raise Unreachable(
            f"{what}: not in the cache {constants.HF_HUB_CACHE}, and {constants.ENDPOINT} cannot "
            "be reached; "
            "connect to a network once, or get the file elsewhere and give its path"
        ) from None


def fetch_first(repository: str, files: tuple[str, ...], **options: Any) -> Path:
    """Return the first of several files that the repository has. Raises `DisaError` if it has none.

    Without a network, the first of them that is in the cache.
    """
    unreachable: Unreachable | None = None
    for file in files:
        try:
            return fetch(repository, file, **options)
        except FileNotFoundError:
            continue
        except Unreachable as error:
            unreachable = unreachable or error
    raise unreachable or DisaError(
        f"{repository}: has none of {', '.join(files)}; it is no model that disa reads"
    )


def commit_of(path: Path) -> str | None:
    """Return the commit that a path in the Hub's cache belongs to."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's log of every attempt off the terminal.

    What failed is said once, at the end.
    """
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
