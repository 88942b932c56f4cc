"""A command's options as one frozen record: its fields, and the file it is saved to and read from.

Records nest: the options of a nested record count as the outer one's own.
"""

import tomllib
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from disa.errors import DisaError, one_line
from disa.running.files import write_text
from disa.running.reading import check_form, read_text

# YAML is slow to read, and options are few.
MOST_BYTES = 2**20
REMEDY = "write lines such as `size: 512`"
Value = str | bool | int | float | None


def options(record_type: type, default: Any = None) -> dict[str, Any]:
    """Return the defaults of a record's options by name; `MISSING` for those without one.

    `default` is a record whose values replace the type's own defaults. The options of a nested
    record count as its own.
    """
    # The types themselves, without what tyro is told about them.
    hints = get_type_hints(record_type)
    flat: dict[str, Any] = {}
    for field in fields(record_type):
        value: Any = field.default
        if field.default_factory is not MISSING:
            value = field.default_factory()
        if default is not None:
            value = getattr(default, field.name)
        # The command line shows no nesting, and neither do files of options.
        if is_dataclass(hints[field.name]):
            flat |= {nested.name: getattr(value, nested.name) for nested in fields(value)}
        else:
            flat[field.name] = value
    return flat


def values(record: Any) -> dict[str, Any]:
    """Return a record's options as plain data for JSON or YAML, without those that are None."""
    flat: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            flat |= values(value)
        # TOML has no word for None, and a missing line means the same.
        elif value is not None:
            flat[field.name] = _plain_data(value)
    return flat


def save_config(path: Path, record: Any) -> None:
    """Write a record as YAML that `--config` accepts. Raises `DisaError` if the disk refuses."""
    text = yaml.safe_dump(values(record), sort_keys=False, allow_unicode=True)
    write_text(path, text)


def read_config(path: Path, record_type: type) -> dict[str, Any]:
    """Read the options in a YAML or TOML file, by name.

    Raises `DisaError` that names the file for one that cannot be read, and for a name that is not
    an option of `record_type`.
    """
    text = read_text(path, "give a YAML or TOML file", MOST_BYTES)
    try:
        data = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except Exception as error:  # both parsers meet damaged text with every kind of exception
        raise DisaError(f"{path}: is not valid YAML or TOML ({one_line(error)})") from None
    # A list in a list is no value of any option, and YAML's can hold themselves.
    check_form(data, dict[Any, Value | list[Value]], str(path), REMEDY)

    # Names are written as on the command line or as in Python; no value is no choice.
    known = options(record_type)
    settings = {
        str(name).replace("-", "_"): value for name, value in data.items() if value is not None
    }
    # A misspelt name would leave the default in force without a word.
    for name in settings:
        if name not in known:
            raise DisaError(f'{path}: unknown option "{name}"; known are {", ".join(known)}')
    return settings


def _plain_data(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain_data(part) for part in value]
    return value
