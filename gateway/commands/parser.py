"""argparse as this command line wants it, and settings Structs as its flags.

Knows no particular command; `table.py` has those.
"""

import argparse
import shutil
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec
from msgspec import inspect

from gateway.options import Option, options_of, suggestion

# Of more names than fit on a line the description tells.
_MAX_METAVAR = 60
# Defaults that say nothing by themselves; a description tells what such a 0 means.
_SILENT_DEFAULTS = ("", (), 0)


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is answered in two lines instead of with all of the usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options,
            formatter_class=_Formatter,
            allow_abbrev=False,
            # What is not given is absent, so that a default never hides a variable or the file.
            argument_default=argparse.SUPPRESS,
        )
        self.set_defaults(parser=self)

    def error(self, message: str) -> NoReturn:
        print(f"unisono: {message}\nsee {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)

    def refuse_unknown(self, argument: str) -> NoReturn:
        """Say which flag was probably meant by one that there is not."""
        flag = argument.partition("=")[0]
        if not flag.startswith("-"):
            self.error(f"unexpected argument {argument}")
        known = [name for action in self._actions for name in action.option_strings]
        self.error(f"there is no flag {flag}{suggestion(flag, known, '--')}")

    def add_settings(self, settings: type[msgspec.Struct], group: str) -> None:
        """Add a flag for each field; `group` heads those whose Meta names no other."""
        self.add_options(options_of(settings, group))

    def add_options(self, options: Iterable[Option]) -> None:
        """Add a flag for each option, under the heading of its group."""
        groups: dict[str, argparse._ArgumentGroup] = {}
        for option in options:
            if option.group not in groups:
                groups[option.group] = self.add_argument_group(option.group)
            shape: dict[str, Any] = {"metavar": _metavar(option.kind)}
            if option.is_switch:
                shape = {"action": argparse.BooleanOptionalAction}
            elif option.is_size:
                shape = {"metavar": "SIZE"}
            groups[option.group].add_argument(
                option.flag, dest=option.name, help=_help(option), **shape
            )


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, 100)
        super().__init__(prog, max_help_position=30, width=width)


def _help(option: Option) -> str:
    default = option.default
    if isinstance(default, bool):
        shown = " [on]" if default else " [off]"
    elif option.is_object or default in _SILENT_DEFAULTS:
        shown = ""
    elif isinstance(default, tuple):
        shown = f" [{','.join(map(str, default))}]"
    else:
        shown = f" [{default:g}]" if isinstance(default, float) else f" [{default}]"
    return (option.description + shown).replace("%", "%%")


def _metavar(kind: inspect.Type) -> str:
    match kind:
        case inspect.LiteralType(values=values):
            names = "{" + ",".join(map(str, values)) + "}"
            return names if len(names) <= _MAX_METAVAR else "NAME"
        case inspect.IntType() | inspect.FloatType():
            return "N"
        case inspect.StructType() | inspect.DictType():
            return "JSON"
        case inspect.VarTupleType(item_type=item):
            name = _metavar(item.type if isinstance(item, inspect.Metadata) else item)
            return f"{name},..."
        case _:
            return "TEXT"
