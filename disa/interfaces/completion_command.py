"""`disa completion`: a script with which a shell completes commands, options and their values."""

from dataclasses import dataclass, make_dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print a script with which your shell completes commands, options and their values.

    Example: `echo 'source <(disa completion bash)' >> ~/.bashrc`
    """

    # Your shell.
    shell: Annotated[tyro.conf.Positional[Literal["bash", "zsh"]], tyro.conf.arg(metavar="SHELL")]

    def run(self) -> int:
        """Print the script."""
        # The list of commands names this file, too.
        from disa.interfaces.cli import COMMANDS, record_of

        commands: dict[str, Any] = {}
        groups: dict[str, dict[str, Any]] = {}
        for command in COMMANDS:
            group, _, name = command.rpartition(" ")
            (groups.setdefault(group, {}) if group else commands)[name] = record_of(command)
        for group, members in groups.items():
            commands[group] = make_dataclass(group, [("command", _one_of(members))])

        # tyro prints it and leaves with 0.
        tyro.cli(
            _one_of(commands),
            prog="disa",
            args=["--tyro-print-completion", self.shell],
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes),
        )
        return 0


def _one_of(members: dict[str, Any]) -> Any:
    """Return the type whose values are any of these commands, under these names."""
    named = (Annotated[member, tyro.conf.subcommand(name=name)] for name, member in members.items())
    return reduce(or_, named)
