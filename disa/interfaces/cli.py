"""The command line: `disa COMMAND OPTIONS`. Every command is a frozen record; fields are options.

The help of an option is the comment beside its field, and the help of a command is its docstring.
Nothing heavy is imported here or by the modules of the commands, so that help answers at once.
"""

import errno
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import tyro

from disa.errors import DisaError, memory_errors_as, one_line
from disa.running.files import home_expanded
from disa.running.interruption import INTERRUPTED, like_ctrl_c
from disa.running.records import options, read_config
from disa.running.terminal import escape_unprintable, say, warn
from disa.version import __version__

FAILED = 2
LESS_MEMORY = "out of memory; use smaller pictures, fewer labels or --device cpu"

# command -> where its record is
COMMANDS: dict[str, str] = {
    "segment": "disa.interfaces.segment_command:Segment",
    "serve": "disa.interfaces.serve_command:Serve",
    "evaluate": "disa.interfaces.evaluate_command:Evaluate",
    "score": "disa.interfaces.evaluate_command:Score",
    "train": "disa.interfaces.train_command:Train",
    "pretrain-clip": "disa.interfaces.train_command:PretrainClip",
    "models": "disa.interfaces.models_command:Models",
    "info": "disa.interfaces.models_command:Info",
    "bench": "disa.interfaces.bench_command:Bench",
    "export": "disa.interfaces.export_command:Export",
    "convert": "disa.interfaces.models_command:Convert",
    "vocabulary": "disa.interfaces.vocabulary_command:PrintVocabulary",
    "doctor": "disa.interfaces.doctor_command:Doctor",
    "completion": "disa.interfaces.completion_command:Completion",
    "picturebook": "disa.interfaces.vocabulary_command:DrawPicturebook",
    "data list": "disa.interfaces.data_command:ListData",
    "data import": "disa.interfaces.data_command:ImportData",
    "data check": "disa.interfaces.data_command:CheckData",
    "data prepare": "disa.interfaces.data_command:PrepareData",
    "data labels": "disa.interfaces.data_command:WriteLabels",
}
INTRODUCTION = """\
usage: disa COMMAND [OPTIONS]

Segment pictures by labels: every pixel gets one of the labels that you name in your own words.

Try: disa segment drawing.png --labels "boat, sea, sky" --out results --model mini
"""
EXIT_CODES = """\
`disa COMMAND --help` explains a command; `disa --version` prints the version.
Exit codes: 0 done, 1 some pictures failed, 2 nothing could be done, 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    A mistake of the user is one line on stderr and never a traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    escape_unprintable()
    try:
        with like_ctrl_c(), memory_errors_as(LESS_MEMORY):
            return _run(arguments)
    except DisaError as error:
        warn(f"error: {one_line(error)}")
        return FAILED
    except OSError as error:
        # Many places ask about a file before they open it, and only this question fails so.
        if error.errno != errno.ENAMETOOLONG:
            raise
        warn(f"error: {error.filename}: the name is too long for a file; choose a shorter one")
        return FAILED
    except KeyboardInterrupt:
        warn("interrupted: files already written are whole and kept")
        return INTERRUPTED


def parse(command: str, arguments: Sequence[str]) -> Any:
    """Return the record of a command with these arguments.

    Options come from three places, later ones win: `--config FILE`, `--set NAME=VALUE`, and the
    options themselves. Exits with 2 after a message for what is no option or no value of one.
    """
    record_type = record_of(command)
    settings: dict[str, Any] = {}
    arguments = [_at_home(argument) for argument in arguments]
    paths, _ = _split_off("--config", arguments)
    if any(paths) and "config" in options(record_type):
        settings = read_config(Path(paths[-1]), record_type)

    # What is typed replaces what the file has; only commands with one positional have `--config`.
    positional = _positional(record_type)
    typed = _first_positional(arguments, options(record_type))
    if typed is not None:
        settings.pop(positional, None)

    # The defaults of `disa train` depend on its recipe.
    presets = getattr(record_type, "presets", None)
    default = presets(typed or str(settings.get(positional, ""))) if presets else None
    known = options(record_type, default)
    arguments = _settled(arguments, settings, known)

    # These options stand before the others, as if they had been typed.
    arguments = [*map(_at_home, _tokens(settings, known, positional)), *arguments]
    for argument in arguments:
        if "\0" in argument:
            raise DisaError(f"{argument!r}: holds a zero character, which no name and no text has")
    record: Any = tyro.cli(
        record_type,
        default=default,
        prog=f"disa {command}",
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
        registry=_rules_of_types(),
    )
    return record


def _settled(
    arguments: Sequence[str], settings: dict[str, Any], known: Mapping[str, Any]
) -> list[str]:
    """Return the arguments that are left once `--set` and typed defaults have changed `settings`.

    Raises `DisaError` for a `--set` that is not NAME=VALUE.
    """
    texts, left = _split_off("--set", arguments)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise DisaError(f"--set {text}: write NAME=VALUE, such as --set seed=1")
        if name in known and name != "set":
            settings[name] = value
        else:
            # The record itself knows what it means, or refuses it.
            left += ["--set", text]

    # There is no flag for a default; whoever types one wants it, whatever the file has.
    for argument in [each for each in left if _is_default(each, known)]:
        left.remove(argument)
        settings.pop(_option(argument), None)
    return left


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        say(*_help())
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
        say(*_summaries(group))
        return 0
    wanted = " ".join(arguments[:2]) if group else arguments[0]
    near = get_close_matches(wanted, COMMANDS, n=1)
    advice = f'did you mean "{near[0]}"?' if near else "disa --help lists them"
    raise DisaError(f'there is no command "{wanted}"; {advice}')


def _help() -> list[str]:
    commands = ["commands:", *_summaries(list(COMMANDS)), ""]
    return [*INTRODUCTION.split("\n"), *commands, *EXIT_CODES.split("\n")]


def _summaries(commands: Sequence[str]) -> list[str]:
    """Return a line for each command: its name and the first line of its docstring."""
    lines = []
    for command in commands:
        docstring = record_of(command).__doc__ or ""
        lines.append(f"  {command:<15} {docstring.strip().splitlines()[0]}")
    return lines


def record_of(command: str) -> type:
    """Return the record of a command."""
    module, _, name = COMMANDS[command].partition(":")
    record_type: type = getattr(import_module(module), name)
    return record_type


def _positional(record_type: type) -> str:
    """Return the name of the first positional argument, "" if there is none."""
    hints = get_type_hints(record_type, include_extras=True)
    for name, hint in hints.items():
        if tyro.conf.Positional in getattr(hint, "__metadata__", ()):
            return name
    return ""


def _first_positional(arguments: Sequence[str], known: Mapping[str, Any]) -> str | None:
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            return argument
        is_flag = isinstance(known.get(_option(argument)), bool) or argument in ("-h", "--help")
        if "=" not in argument and not is_flag:
            next(rest, None)  # the option's value
    return None


def _option(flag: str) -> str:
    """Return the name of the option that `--flag` or `--no-flag` sets."""
    return flag.strip("-").replace("-", "_").removeprefix("no_")


def _is_default(argument: str, known: Mapping[str, Any]) -> bool:
    """Tell a flag that says what is the default anyway."""
    default = known.get(_option(argument))
    return argument.startswith("--") and default is (not argument.startswith("--no-"))


def _split_off(option: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the values of an option, and the arguments without it."""
    values = []
    others = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name == option:
            values.append(value if equals else next(rest, ""))
        else:
            others.append(argument)
    return values, others


def _tokens(settings: Mapping[str, Any], known: Mapping[str, Any], positional: str) -> list[str]:
    """Return command-line arguments that give options these values; `known` has the defaults."""
    tokens: list[str] = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        default = known[name]
        if name == positional:
            tokens += map(str, value) if isinstance(value, list) else [str(value)]
        elif isinstance(default, bool):
            wanted = _boolean(name, value)
            # A flag exists only for the value that is not the default.
            if wanted != default:
                tokens.append(flag if wanted else f"--no-{name.replace('_', '-')}")
        elif isinstance(default, tuple):
            # A text is one value, as after its option: labels and prompts have commas of their own.
            for part in value if isinstance(value, list) else [value]:
                tokens += [flag, str(part)]
        elif value is not None:
            tokens += [flag, str(value)]
    return tokens


def _at_home(argument: str) -> str:
    """Expand `~` where shells leave it: in quotes, and in `--out=~/results` or `--out=~`."""
    option, equals, value = argument.partition("=")
    if not equals or not option.startswith("-"):
        return home_expanded(argument)
    return f"{option}={home_expanded('~/' if value == '~' else value)}"


def _boolean(name: str, value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise DisaError(f"{name}={value}: write true or false")
    return text == "true"


def _path(texts: Sequence[str]) -> Path:
    if not texts[0]:
        raise ValueError("a path is empty; name a file or a folder")
    return Path(texts[0])


def _rules_of_types() -> Any:
    """Return tyro's rules with two more.

    An option that may be None shows the type of its value. A path is not empty: Python would take
    that for the folder in which the command runs.
    """
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def path(info: Any) -> Any:
        if info.type is not Path:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="PATH",
            instance_from_str=_path,
            is_instance=lambda value: isinstance(value, Path),
            str_from_instance=lambda value: [str(value)],
        )

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
        # Nobody types None, but it is the default that help shows.
        return replace(
            inner,
            is_instance=lambda value: value is None or inner.is_instance(value),
            str_from_instance=lambda value: (
                ["none"] if value is None else inner.str_from_instance(value)
            ),
        )

    return registry
