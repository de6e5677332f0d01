"""The command line: what may be typed, and how a failure is told to who typed it.

Flags are made from the settings Structs, so none is described here. Exit status 2 means that the
command was not understood, 1 that it could not be carried out. A command's own modules are imported
when it is chosen: `--help` answers at once.
"""

import argparse
import shutil
import signal
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from msgspec import inspect

from gateway.bench.bench_settings import BenchSettings, GatewayBenchSettings
from gateway.commands.keys import FileSettings, NewKeySettings
from gateway.foreign_settings import meant_instead
from gateway.options import Option, SettingsError, options_of, suggestion
from gateway.settings import setting_options
from gateway.top.top_settings import TopSettings

_SERVE_HELP = """\
Serve a model behind an OpenAI-compatible API until Ctrl-C or SIGTERM.

MODEL is a .gguf file, a Hugging Face directory (config.json, safetensors,
tokenizer), a hub name (org/name), or one file of a hub repository
(org/name:file.gguf). Without it: SmolLM2-135M-Instruct, fetched once.
"""
_SERVE_END = """\
Every flag may also be set as a variable (--max-num-seqs: UNISONO_MAX_NUM_SEQS)
or in a TOML file (--config FILE; tables [server] and [engine], key
max_num_seqs). Flags win over variables, variables over the file. Numbers may
have suffixes: 4k, 4K (4096); sizes are also 2GB, 512MiB.
"""
_CONFIG_HELP = """\
Print the settings that `unisono serve` with the same flags, variables and file
would have, as a settings file; a comment says where each value comes from.
"""
_BENCH_HELP = """\
Load a running OpenAI-compatible server, ours or another, and print a table of
throughput, time to the first token (TTFT) and gaps between tokens (ITL).
Exits with 1 if any request failed.
"""
_BENCH_GATEWAY_HELP = """\
Run one gateway worker between clients and an engine that emits tokens for
free, and print its CPU time a token beside that of a bare ASGI app on the
same HTTP server, how late tokens come, and short requests a second.
"""
# Of more names than fit on a line the description tells.
_MAX_METAVAR = 60
# Defaults that say nothing by themselves; a description tells what such a 0 means.
_SILENT_DEFAULTS = ("", (), 0)


def main(argv: Sequence[str]) -> int:
    """Carry out one command line and return the exit status.

    Raises SystemExit where argparse or a command ends early, with the status to exit with.
    """
    parser = _parser()
    _check_foreign(argv)
    arguments, unknown = parser.parse_known_args(argv)
    given = vars(arguments)
    command: _Parser = given.pop("command")
    config: Path | None = given.pop("config", None)
    if unknown:
        command.error(_unknown(unknown[0], command))
    try:
        match command.prog:
            case "unisono serve":
                from gateway.commands import serve

                return serve.run(given, config)
            case "unisono config":
                from gateway.commands import config as config_command

                as_json = bool(given.pop("as_json", False))
                return config_command.run(given, config, as_json=as_json)
            case "unisono models":
                from gateway.commands import models

                return models.run(as_json=bool(given.get("as_json", False)))
            case "unisono top":
                from gateway.commands import top

                return top.run(given)
            case "unisono bench serve":
                from gateway.commands import bench

                return bench.run(given)
            case "unisono bench gateway":
                from gateway.commands import bench_gateway

                return bench_gateway.run(given)
            case "unisono keys new" | "unisono keys list" | "unisono keys revoke":
                from gateway.commands import keys

                return keys.run(command.prog.rpartition(" ")[2], given)
            case prog if prog.startswith("unisono ctl "):
                from gateway.commands import ctl

                return ctl.run(prog.rpartition(" ")[2], given)
            case _:
                command.print_help()
                return 2
    except SettingsError as error:
        command.error(str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


class _Parser(argparse.ArgumentParser):
    """argparse, but a mistake is answered in two lines instead of with all of the usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **options,
            formatter_class=_Formatter,
            allow_abbrev=False,
            # What is not given is absent, so that a default never hides a variable or the file.
            argument_default=argparse.SUPPRESS,
        )
        self.set_defaults(command=self)

    def error(self, message: str) -> NoReturn:
        print(f"unisono: {message}\nsee {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, 100)
        super().__init__(prog, max_help_position=30, width=width)


def _parser() -> _Parser:
    parser = _Parser(
        prog="unisono",
        usage="unisono [--version] COMMAND ...",
        description="An OpenAI-compatible server for large language models.",
    )
    parser.add_argument("--version", action="version", version=f"unisono {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", prog="unisono")
    serve = commands.add_parser(
        "serve",
        help="serve a model",
        usage="unisono serve [MODEL] [flags]",
        description=_SERVE_HELP,
        epilog=_SERVE_END,
    )
    _add_serve_flags(serve)
    config = commands.add_parser(
        "config",
        help="show the settings that serve would have, and where each comes from",
        usage="unisono config [--json] [MODEL] [flags of serve]",
        description=_CONFIG_HELP,
        epilog=_SERVE_END,
    )
    config.add_argument("--json", dest="as_json", action="store_true", help="as one JSON object")
    _add_serve_flags(config)
    models = commands.add_parser(
        "models",
        help="list the families of models that can be served",
        usage="unisono models [--json]",
        description="Families of models, the names files give them, and how each was checked.",
    )
    models.add_argument("--json", dest="as_json", action="store_true", help="as one JSON array")
    top = commands.add_parser(
        "top",
        help="watch a running server",
        usage="unisono top [flags]",
        description="Groups, latencies, load and processes of a running server; q quits.",
    )
    _add_flags(top, options_of(TopSettings, "top"))
    bench = commands.add_parser(
        "bench",
        help="measure a running server",
        usage="unisono bench serve|gateway [flags]",
        description="Measurements of Unisono and of servers like it.",
    )
    kinds = bench.add_subparsers(title="commands", metavar="COMMAND", prog="unisono bench")
    bench_serve = kinds.add_parser(
        "serve",
        help="load a server and print throughput and latencies",
        usage="unisono bench serve [flags]",
        description=_BENCH_HELP,
    )
    _add_flags(bench_serve, options_of(BenchSettings, "load"))
    bench_gateway = kinds.add_parser(
        "gateway",
        help="measure what the gateway itself costs",
        usage="unisono bench gateway [flags]",
        description=_BENCH_GATEWAY_HELP,
    )
    _add_flags(bench_gateway, options_of(GatewayBenchSettings, "load"))
    _add_keys(commands)
    _add_ctl(commands)
    return parser


def _add_ctl(commands: Any) -> None:
    ctl = commands.add_parser(
        "ctl",
        help="show and change the groups of a running server",
        usage="unisono ctl list|drain|add|remove|restart|logs [flags]",
        description="Talks to the supervisor of a server on this machine.",
    )
    actions = ctl.add_subparsers(title="commands", metavar="COMMAND", prog="unisono ctl")
    for action, operand, words in (
        ("list", "", "show groups, ranks and workers"),
        ("drain", " GROUP", "let a group's streams end, then stop it"),
        ("add", "", "start one more group"),
        ("remove", " GROUP", "drain a group and forget it"),
        ("restart", " GROUP|--rolling", "drain a group and start it again, or one after another"),
        ("logs", "", "show the supervisor's last lines and what ranks said"),
    ):
        usage = f"unisono ctl {action}{operand} [flags]"
        parser = actions.add_parser(action, help=words, usage=usage, description=words)
        if operand:
            nargs = "?" if action == "restart" else None
            parser.add_argument("group", metavar="GROUP", nargs=nargs, help="its number")
            parser.add_argument("--timeout", metavar="N", help="seconds for streams to end [any]")
        if action == "add":
            parser.add_argument("--name", metavar="NAME", help="what requests may call it")
            parser.add_argument("--tp", metavar="N", help="its ranks [as many as the first has]")
        if action == "restart":
            parser.add_argument("--rolling", action="store_true", help="all, one after another")
        if action == "logs":
            parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
        parser.add_argument("--socket", metavar="PATH", help="of the server [the only one here]")
        parser.add_argument("--json", dest="as_json", action="store_true", help="as JSON lines")


def _add_keys(commands: Any) -> None:
    keys = commands.add_parser(
        "keys",
        help="make, list and revoke API keys",
        usage="unisono keys new|list|revoke [flags]",
        description="The file of API keys that `unisono serve --api-keys` reads.",
    )
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", prog="unisono keys")
    for action, words, settings in (
        ("new", "make a key, show it once and keep its hash", NewKeySettings),
        ("list", "show whose keys there are", FileSettings),
        ("revoke", "remove a key", FileSettings),
    ):
        usage = f"unisono keys {action} " + ("ID [flags]" if action == "revoke" else "[flags]")
        parser = actions.add_parser(action, help=words, usage=usage, description=words)
        if action == "revoke":
            parser.add_argument("key_id", metavar="ID", help="as `unisono keys list` shows it")
        _add_flags(parser, options_of(settings, "key"))


def _add_serve_flags(parser: _Parser) -> None:
    options = [option for table in setting_options().values() for option in table]
    (model,) = [option for option in options if option.name == "model"]
    options.remove(model)
    parser.add_argument("model", metavar="MODEL", nargs="?", help="what to serve, as told above")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file of settings")
    _add_flags(parser, options)


def _add_flags(parser: _Parser, options: Iterable[Option]) -> None:
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in options:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        shape: dict[str, Any] = {"metavar": _metavar(option.kind)}
        if option.is_switch:
            shape = {"action": argparse.BooleanOptionalAction}
        elif option.is_size:
            shape = {"metavar": "SIZE"}
        groups[option.group].add_argument(
            option.flag, dest=option.name, help=_help(option), **shape
        )


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


def _check_foreign(argv: Sequence[str]) -> None:
    """Refuse flags of other servers before argparse takes -hf for -h, or a value for MODEL."""
    if not argv or argv[0] not in ("serve", "config"):
        return
    known = [option.flag for table in setting_options().values() for option in table]
    for argument in argv[1:]:
        flag = argument.partition("=")[0]
        if not flag.startswith("-") or flag in known:
            continue
        if meant := meant_instead(flag, [name.removeprefix("--") for name in known], "--"):
            _Parser(prog=f"unisono {argv[0]}").error(f"there is no flag {flag}{meant}")


def _unknown(argument: str, command: _Parser) -> str:
    flag = argument.partition("=")[0]
    if not flag.startswith("-"):
        return f"unexpected argument {argument}"
    known = [name for action in command._actions for name in action.option_strings]
    return f"there is no flag {flag}{suggestion(flag, known, '--')}"


def _version() -> str:
    try:
        return metadata.version("unisono")
    except metadata.PackageNotFoundError:
        return "(not installed)"
