"""Pictures of a cluster: files, addresses of any file system that fsspec knows, rows of tables.

A table is a parquet file. Its column `path` names pictures; a column `bytes` holds their files, and
then a worker gets a whole group of its rows at a time, since no less can be read.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
from fsspec.core import url_to_fs
from pyarrow import parquet

from disa.data.picture_files import Content
from disa.data.picture_paths import Found, expand, looks_like_picture, readable
from disa.errors import DisaError, one_line

FETCHES = 8  # at once, by each worker


class Unit(NamedTuple):
    """Pictures that a worker is given at a time: files, or those of a group of a table's rows."""

    paths: list[str]
    table: str = ""  # its address
    group: int = -1


@dataclass
class Pictures:
    """Where pictures are. Each is known by its path or address, which no other has."""

    files: list[str] = field(default_factory=list)
    groups: list[Unit] = field(default_factory=list)
    unread: str = ""  # what was left out, with the remedy
    notes: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """All of them."""
        return [*self.files, *(path for group in self.groups for path in group.paths)]

    def units(self, asked: set[str], batch: int) -> Iterator[Unit]:
        """Yield these pictures: files by the batch, those in tables by the group of rows."""
        files = [path for path in self.files if path in asked]
        for start in range(0, len(files), batch):
            yield Unit(files[start : start + batch])
        for group in self.groups:
            own = [path for path in group.paths if path in asked]
            if own:
                yield group._replace(paths=own)


def find_pictures(names: Iterable[str], recursive: bool = False) -> Pictures:
    """Find the pictures that files, folders, globs, addresses and tables name.

    What `expand` says of folders and globs of this machine holds for addresses such as
    s3://bucket/folder, too. Raises `DisaError` for what holds no picture or cannot be reached, for
    a table without a column `path`, and for two pictures by one path in tables with `bytes`.
    """
    names = list(names)
    own = [name for name in names if not is_table(name) and "://" not in name]
    found = expand(own, recursive)
    files = [str(file) for file in found.files]
    pictures = Pictures(notes=found.notes)
    for name in names:
        if is_table(name):
            _add_tables(name, files, pictures.groups)
        elif "://" in name:
            files += _at_address(found, name, recursive)
    pictures.files = list(dict.fromkeys(files))
    pictures.unread = found.unread()
    _refuse_doubles(pictures)
    return pictures


def is_table(name: str) -> bool:
    """Tell whether a name is a table's, or a glob of tables."""
    return name.lower().endswith(".parquet")


def contents(unit: Unit) -> Iterator[Content | DisaError | None]:
    """Yield each picture's file, or why there is none; None for a file of this machine.

    Files of other machines are fetched several at a time.
    """
    if unit.table:
        yield from _rows(unit)
        return
    with ThreadPoolExecutor(FETCHES) as pool:
        yield from pool.map(_fetched, unit.paths)


def _rows(unit: Unit) -> Iterator[Content | DisaError]:
    try:
        with fsspec.open(unit.table, "rb") as file:
            rows = parquet.ParquetFile(file).read_row_group(unit.group, ["path", "bytes"])
        found = {row["path"]: row["bytes"] for row in rows.to_pylist()}
    except Exception as error:  # each file system has exceptions of its own
        reason = DisaError(f"{unit.table}: cannot be read ({one_line(error)})")
        yield from [reason] * len(unit.paths)
        return
    for path in unit.paths:
        content = found.get(path)
        yield Content(content, path) if content else DisaError(f"{path}: has no bytes")


def _fetched(path: str) -> Content | DisaError | None:
    if "://" not in path:
        return None
    try:
        with fsspec.open(path, "rb") as file:
            return Content(file.read(), path)
    except Exception as error:  # as above
        return DisaError(f"{path}: cannot be read ({one_line(error)})")


def _refuse_doubles(pictures: Pictures) -> None:
    seen = set(pictures.files)
    for group in pictures.groups:
        for path in group.paths:
            if path in seen:
                raise DisaError(f"{group.table}: {path} names two pictures; name each once")
            seen.add(path)


def _at_address(found: Found, name: str, recursive: bool) -> list[str]:
    """Return the addresses of the pictures in a folder or a glob, or of the one picture."""
    system, every = _listed(name, recursive)
    if every is None:
        return [name]
    likely = [Path(path) for path in every if looks_like_picture(Path(path))]
    files = readable(found, likely)
    if not files:
        raise DisaError(f"{name}: no picture there; add --recursive for those in its subfolders")
    return [system.unstrip_protocol(file.as_posix()) for file in files]


def _listed(name: str, recursive: bool) -> tuple[Any, list[str] | None]:
    """Return a file system, and the files in a folder or a glob there; None for a single file."""
    try:
        system, place = url_to_fs(name)
        if has_magic(place):
            return system, sorted(system.glob(place))
        if system.isdir(place):
            return system, sorted(system.find(place, maxdepth=None if recursive else 1))
    except Exception as error:  # each file system has exceptions of its own
        raise DisaError(f"{name}: cannot be reached ({one_line(error)})") from None
    return system, None


def _add_tables(name: str, files: list[str], groups: list[Unit]) -> None:
    """Add the pictures in a table, or in all tables of a glob."""
    system, every = _listed(name, recursive=False)
    places = [url_to_fs(name)[1]] if every is None else every
    if not places:
        raise DisaError(f"{name}: matches no file")
    for place in places:
        address = system.unstrip_protocol(place)
        try:
            with system.open(place) as file:
                paths, sizes = _paths(parquet.ParquetFile(file), address)
        except (OSError, pa.ArrowException) as error:
            raise DisaError(f"{address}: is no whole parquet file ({one_line(error)})") from None
        if sizes is None:
            files += paths
            continue
        rest = iter(paths)
        groups += [Unit(list(islice(rest, size)), address, n) for n, size in enumerate(sizes)]


def _paths(table: Any, address: str) -> tuple[list[str], list[int] | None]:
    """Return the paths in a table, and the sizes of its groups of rows if it holds their files."""
    columns = table.schema_arrow.names
    if "path" not in columns:
        raise DisaError(
            f"{address}: has no column `path`, which names the pictures; it has "
            f"{', '.join(columns)}"
        )
    paths = table.read(columns=["path"])["path"].to_pylist()
    if not all(isinstance(path, str) and path for path in paths):
        raise DisaError(f"{address}: a value of `path` is no text, or empty")
    if "bytes" not in columns:
        return paths, None
    metadata = table.metadata
    return paths, [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
