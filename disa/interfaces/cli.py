"""The command line: `disa COMMAND OPTIONS`. Every command is a frozen record; fields are options.

The help of an option is the comment beside its field, and the help of a command is its docstring.
Nothing heavy is imported here or by the modules of the commands, so that help answers at once.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from disa.errors import DisaError, memory_errors_as
from disa.running.interruption import INTERRUPTED
from disa.running.records import options, read_config
from disa.running.terminal import say, warn
from disa.version import __version__

FAILED = 2

# command -> where its record is
COMMANDS: dict[str, str] = {
    "segment": "disa.interfaces.segment_command:Segment",
    "evaluate": "disa.interfaces.evaluate_command:Evaluate",
    "score": "disa.interfaces.evaluate_command:Score",
    "train": "disa.interfaces.train_command:Train",
    "pretrain-clip": "disa.interfaces.train_command:PretrainClip",
    "models": "disa.interfaces.models_command:Models",
    "info": "disa.interfaces.models_command:Info",
    "convert": "disa.interfaces.models_command:Convert",
    "vocabulary": "disa.interfaces.data_command:PrintVocabulary",
    "picturebook": "disa.interfaces.data_command:DrawPicturebook",
    "data list": "disa.interfaces.data_command:ListData",
    "data check": "disa.interfaces.data_command:CheckData",
    "data prepare": "disa.interfaces.data_command:PrepareData",
    "data labels": "disa.interfaces.data_command:WriteLabels",
}
INTRODUCTION = """\
usage: disa COMMAND [OPTIONS]

Segment pictures by labels: every pixel gets one of the labels that you name in your own words.

Try: disa segment boat.png --labels "boat, sea, sky" --out results
"""
EXIT_CODES = """\
`disa COMMAND --help` explains a command; `disa --version` prints the version.
Exit codes: 0 done, 1 some pictures failed, 2 nothing could be done, 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    A mistake of the user is one line on stderr and never a traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with memory_errors_as("out of memory; use smaller pictures, fewer labels or --device cpu"):
            return _run(arguments)
    except DisaError as error:
        warn(f"error: {' '.join(str(error).split())}")
        return FAILED
    except KeyboardInterrupt:
        warn("interrupted: files already written are whole and kept")
        return INTERRUPTED


def parse(command: str, arguments: Sequence[str]) -> Any:
    """Return the record of a command with these arguments.

    Options come from three places, later ones win: `--config FILE`, `--set NAME=VALUE`, and the
    options themselves. Exits with 2 after a message for what is no option or no value of one.
    """
    import tyro

    module, _, name = COMMANDS[command].partition(":")
    record_type = getattr(import_module(module), name)
    settings, defaults = _from_config_file(arguments, record_type)
    defaults |= _presets(arguments, defaults, record_type)
    known = options(record_type, defaults)
    # Options of the file stand before the others, as if they had been typed.
    arguments = [*_tokens(settings, known), *_with_settings(arguments, known)]
    record: Any = tyro.cli(
        record_type,
        default=_incomplete(record_type, defaults) if defaults else None,
        prog=f"disa {command}",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
        registry=_plain_names_of_types(),
    )
    return record


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        say(_help())
        return 0
    if arguments[0] == "--version":
        say(f"disa {__version__}")
        return 0
    for words in (2, 1):
        command = " ".join(arguments[:words])
        if command in COMMANDS:
            code = parse(command, arguments[words:]).run()
            return int(code)
    group = [command for command in COMMANDS if command.startswith(f"{arguments[0]} ")]
    if group and arguments[1:] in ([], ["-h"], ["--help"]):
        say("\n".join(_summaries(group)))
        return 0
    wanted = " ".join(arguments[:2]) if group else arguments[0]
    near = get_close_matches(wanted, COMMANDS, n=1)
    advice = f'did you mean "{near[0]}"?' if near else "disa --help lists them"
    raise DisaError(f'there is no command "{wanted}"; {advice}')


def _help() -> str:
    return "\n".join([INTRODUCTION, "commands:", *_summaries(list(COMMANDS)), "", EXIT_CODES])


def _summaries(commands: Sequence[str]) -> list[str]:
    """Return a line for each command: its name and the first line of its docstring."""
    lines = []
    for command in commands:
        module, _, name = COMMANDS[command].partition(":")
        docstring = getattr(import_module(module), name).__doc__ or ""
        lines.append(f"  {command:<15} {docstring.strip().splitlines()[0]}")
    return lines


def _from_config_file(
    arguments: Sequence[str], record_type: type
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options in `--config FILE`, and the positional arguments in it."""
    path = _value_of("--config", arguments)
    if path is None or "config" not in options(record_type):
        return {}, {}
    settings = read_config(Path(path), record_type)
    positionals = {}
    for name, hint in get_type_hints(record_type, include_extras=True).items():
        if _is_positional(hint) and name in settings:
            value = settings.pop(name)
            positionals[name] = tuple(map(str, value)) if isinstance(value, list) else str(value)
    return settings, positionals


def _presets(
    arguments: Sequence[str], defaults: Mapping[str, Any], record_type: type
) -> dict[str, Any]:
    """Return the defaults that go with a record's first positional argument.

    Only a record with a static method `presets` has such defaults.
    """
    presets = getattr(record_type, "presets", None)
    if presets is None:
        return {}
    hints = get_type_hints(record_type, include_extras=True)
    positional = next(name for name, hint in hints.items() if _is_positional(hint))
    chosen = _first_positional(arguments, options(record_type)) or defaults.get(positional, "")
    made: dict[str, Any] = presets(chosen)
    return made


def _first_positional(arguments: Sequence[str], known: Mapping[str, Any]) -> str | None:
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            return argument
        name = argument.strip("-").replace("-", "_").removeprefix("no_")
        is_flag = isinstance(known.get(name), bool) or argument in ("-h", "--help")
        if "=" not in argument and not is_flag:
            next(rest, None)  # the option's value
    return None


def _incomplete(record_type: type, defaults: Mapping[str, Any]) -> Any:
    """Return a record with these defaults, of which tyro asks for the values that are missing."""
    import tyro

    # Without `__init__`, which might refuse such a record.
    record: Any = object.__new__(record_type)
    for field in fields(record_type):
        value = field.default
        if field.default_factory is not MISSING:
            value = field.default_factory()
        value = defaults.get(field.name, value)
        vars(record)[field.name] = tyro.MISSING if value is MISSING else value
    return record


def _with_settings(arguments: Sequence[str], known: Mapping[str, Any]) -> list[str]:
    """Turn `--set NAME=VALUE` into the option of that name, where the record has one."""
    settings: dict[str, Any] = {}
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--set":
            text = next(rest, "")
        elif argument.startswith("--set="):
            text = argument.removeprefix("--set=")
        else:
            others.append(argument)
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise DisaError(f"--set {text}: write NAME=VALUE, such as --set seed=1")
        if name in known and name != "set":
            settings[name] = value
        else:
            others += ["--set", text]
    return [*_tokens(settings, known), *others]


def _tokens(settings: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Return command-line arguments that give options these values; `known` has the defaults."""
    tokens: list[str] = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        default = known[name]
        if isinstance(default, bool):
            wanted = _boolean(name, value)
            # A flag exists only for the value that is not the default.
            if wanted != default:
                tokens.append(flag if wanted else f"--no-{name.replace('_', '-')}")
        elif isinstance(default, tuple):
            parts = value if isinstance(value, list) else str(value).split(",")
            for part in parts:
                tokens += [flag, str(part).strip()]
        elif value is not None:
            tokens += [flag, str(value)]
    return tokens


def _boolean(name: str, value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise DisaError(f"{name}={value}: write true or false")
    return str(value).lower() == "true"


def _plain_names_of_types() -> Any:
    """Return tyro's rules with one more: an option that may be None shows the type of its value."""
    import tyro

    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def optional(info: Any) -> Any:
        parts = [part for part in get_args(info.type) if part is not NoneType]
        if get_origin(info.type) is not UnionType or len(parts) != 1:
            return None
        inner = tyro.constructors.ConstructorRegistry.get_primitive_spec(
            tyro.constructors.PrimitiveTypeInfo.make(parts[0], set(info.markers))
        )
        if not isinstance(inner, tyro.constructors.PrimitiveConstructorSpec) or inner.nargs != 1:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=inner.metavar,
            instance_from_str=inner.instance_from_str,
            is_instance=lambda value: value is None or inner.is_instance(value),
            str_from_instance=lambda value: (
                ["none"] if value is None else inner.str_from_instance(value)
            ),
        )

    return registry


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    for index, argument in enumerate(arguments):
        if argument == option and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
    return None


def _is_positional(hint: Any) -> bool:
    import tyro

    return tyro.conf.Positional in getattr(hint, "__metadata__", ())
