"""The command line: what may be typed, and how a failure is told to who typed it.

The commands are `commands/table.py`'s. Flags are made from the settings Structs, so none is
described here. Exit status 2 means that the command was not understood, 1 that it could not be
carried out.
"""

import signal
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from gateway.commands.parser import Parser
from gateway.commands.table import COMMANDS, GROUPS, Command
from gateway.foreign_settings import meant_instead
from gateway.options import SettingsError, options_of
from gateway.settings import setting_options
from gateway.terminal.chat_settings import AskSettings


def main(argv: Sequence[str]) -> int:
    """Carry out one command line and return the exit status.

    Raises SystemExit where argparse or a command ends early, with the status to exit with.
    """
    _check_foreign(argv)
    arguments, unknown = _parser().parse_known_args(argv)
    given = vars(arguments)
    parser: Parser = given.pop("parser")
    command: Command | None = given.pop("command", None)
    if command is not None and command.last and command.last not in given:
        # Before Python 3.13 argparse takes an argument behind flags for one too many.
        if unknown and not unknown[0].startswith("-"):
            given[command.last] = unknown.pop(0)
    if unknown:
        parser.refuse_unknown(unknown[0])
    if command is None:
        parser.print_help()
        return 2
    try:
        return command.run(given)
    except SettingsError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parser() -> Parser:
    """Return the parser of all commands; of what it parsed, `parser` and `command` are for main."""
    parser = Parser(
        prog="unisono",
        usage="unisono [--version] COMMAND ...",
        description="An OpenAI-compatible server for large language models.",
    )
    parser.add_argument("--version", action="version", version=f"unisono {_version()}")
    words = {"": parser.add_subparsers(title="commands", metavar="COMMAND", prog="unisono")}
    for command in COMMANDS:
        group, _, word = command.path.rpartition(" ")
        if group not in words:
            words[group] = _add_group(words[""], group)
        _add_command(words[group], word, command)
    return parser


def _add_group(words: Any, name: str) -> Any:
    group = GROUPS[name]
    actions = [command.path for command in COMMANDS if command.path.startswith(f"{name} ")]
    listed = "|".join(path.partition(" ")[2] for path in actions)
    usage = f"unisono {name} {listed} [flags]"
    parser = words.add_parser(name, help=group.help, usage=usage, description=group.description)
    return parser.add_subparsers(title="commands", metavar="COMMAND", prog=f"unisono {name}")


def _add_command(words: Any, word: str, command: Command) -> None:
    parser = words.add_parser(
        word,
        help=command.help,
        usage=f"unisono {command.path} {command.arguments}",
        description=command.description or command.help,
        epilog=command.epilog,
    )
    parser.set_defaults(command=command)
    command.add(parser)


def _check_foreign(argv: Sequence[str]) -> None:
    """Refuse flags of other servers before argparse takes -hf for -h, or a value for MODEL."""
    if not argv or argv[0] not in ("serve", "config", "run"):
        return
    known = [option.flag for table in setting_options().values() for option in table]
    known += [option.flag for option in options_of(AskSettings, "")] if argv[0] == "run" else []
    for argument in argv[1:]:
        flag = argument.partition("=")[0]
        if not flag.startswith("-") or flag in known:
            continue
        if meant := meant_instead(flag, [name.removeprefix("--") for name in known], "--"):
            Parser(prog=f"unisono {argv[0]}").error(f"there is no flag {flag}{meant}")


def _version() -> str:
    try:
        return metadata.version("unisono")
    except metadata.PackageNotFoundError:
        return "(not installed)"
