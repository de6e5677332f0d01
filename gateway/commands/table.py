"""The commands: what each is called, says in its help, takes, and which module carries it out.

A command is one entry of COMMANDS. Its module is imported when it is chosen, so `--help` answers at
once: flags come from settings Structs that stand apart from what heavy modules do with them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from gateway.bench.bench_settings import BenchSettings, GatewayBenchSettings
from gateway.bench.engine_bench_settings import EngineBenchSettings
from gateway.bench.sweep.sweep_settings import SweepSettings
from gateway.commands.calibrate_settings import CalibrateSettings
from gateway.commands.keys import FileSettings, NewKeySettings
from gateway.commands.parser import Parser
from gateway.planning.plan_settings import PlanSettings
from gateway.settings import setting_options
from gateway.terminal.chat_settings import OWN_ADDRESS, AskSettings, ChatSettings
from gateway.top.top_settings import TopSettings
from gateway.tuning.tune_settings import TuneSettings


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that can be asked for.

    path: its words after `unisono`, those of its group first; help: its line in the list.
    arguments: what follows it, for the usage; description: what its help says above the flags
    (without it: `help`), epilog: what below them. add: puts its arguments on its parser.
    module: in this package, with `run(given) -> exit status` of what was given, by name, or, where
    it serves several commands, `run(action, given)` with the command's last word. last: an argument
    that may also stand behind the flags.
    """

    path: str
    help: str
    module: str
    arguments: str = "[flags]"
    description: str = ""
    epilog: str = ""
    add: Callable[[Parser], None] = lambda parser: None
    takes_action: bool = False
    last: str = ""

    def run(self, given: dict[str, Any]) -> int:
        """Carry it out; return the exit status. Raises SettingsError."""
        run: Callable[..., int] = import_module(f"gateway.commands.{self.module}").run
        return run(self.path.rpartition(" ")[2], given) if self.takes_action else run(given)


@dataclass(frozen=True, slots=True)
class CommandGroup:
    """A first word that several commands share."""

    help: str
    description: str


GROUPS = {
    "bench": CommandGroup(
        "measure servers, layouts, an engine, the gateway",
        "Measurements of Unisono and of servers like it.",
    ),
    "keys": CommandGroup(
        "make, list and revoke API keys",
        "The file of API keys that `unisono serve --api-keys` reads.",
    ),
    "ctl": CommandGroup(
        "show and change the groups of a running server",
        "Talks to the supervisor of a server on this machine.",
    ),
}

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
_RUN_HELP = """\
Serve MODEL on a free port of this machine for one answer, print it, and stop.
PROMPT and what is piped in are put together. Without either, chat with it.
"""
_CHAT_HELP = """\
Chat with a running OpenAI-compatible server, or with a model that is served
for this chat alone. What is piped in is answered without more ado.
"""
_BENCH_HELP = """\
Load a running OpenAI-compatible server, ours or another, and print a table of
throughput, time to the first token (TTFT) and gaps between tokens (ITL).
Requests come from clients that wait for their answers (--concurrency), at a
rate whatever is answered (--rate), or as a trace says (--trace); latencies
count from when a request was due. --html draws them, --json keeps every
round. Exits with 1 if any request failed.
"""
_TUNE_HELP = """\
Start servers of MODEL on this machine, one layout and setting after another,
put each under the load and write the best settings to a file that `unisono
serve --config` takes. Losers are ended early; Ctrl-C leaves the best so far,
and the same command goes on later. Exits with 1 if nothing that was found
meets the limits.
"""
_CALIBRATE_HELP = """\
Measure, in less than a minute, what predictions of speed are made from: how
fast memory is read, how fast weights are multiplied by, what sums over ranks,
a step and the gateway take. Kept in the cache directory for `unisono plan` and
`unisono tune`. Best on a machine that does nothing else.
"""
_BENCH_SWEEP_HELP = """\
Start a server for each combination of model, dtype, quantization, TP and DP,
measure each at every number of streams, and print a table: throughput by batch
size, a line a layout. A point whose server dies is missing, with the reason,
and the sweep goes on. All figures go to a file as they come; the same command
again goes on from it. --html draws them.
"""
_BENCH_ENGINE_HELP = """\
Load one engine into a process of its own, without gateway and HTTP, and print
what decode steps take by batch and context, and prompts by length: what a rank
spends, and all that is above it in `bench serve` is the rest of the server.
"""
_BENCH_GATEWAY_HELP = """\
Run one gateway worker between clients and an engine that emits tokens for
free, and print its CPU time a token beside that of a bare ASGI app on the
same HTTP server, how late tokens come, and short requests a second.
"""


_PLAN_HELP = """\
Say what a model takes and what it gives on devices that need not be here:
weights, cache, what fits, and layouts of ranks with predicted speeds, the best
first. No weights are read and no GPU is asked. Exits with 1 if nothing fits.

MODEL is a path, a hub name as of `unisono serve`, of which config.json or a
header alone is fetched, or a name of the built-in catalogue (--list).
"""


def settings(kind: type[msgspec.Struct], group: str) -> Callable[[Parser], None]:
    """Let a command take the fields of a settings Struct as flags."""
    return partial(_add_settings, kind=kind, group=group)


def _add_settings(parser: Parser, kind: type[msgspec.Struct], group: str) -> None:
    parser.add_settings(kind, group)


def _add_serve_flags(
    parser: Parser, model_nargs: str | None = "?", without: Collection[str] = ()
) -> None:
    table = [option for options in setting_options().values() for option in options]
    options = [option for option in table if option.name not in without]
    (model,) = [option for option in options if option.name == "model"]
    options.remove(model)
    parser.add_argument("model", metavar="MODEL", nargs=model_nargs, help="what to serve")
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file of settings")
    parser.add_options(options)


def _add_run_flags(parser: Parser) -> None:
    parser.add_settings(AskSettings, "answer")
    _add_serve_flags(parser, model_nargs=None, without=OWN_ADDRESS)
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to answer")


def _add_config_flags(parser: Parser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="as one JSON object")
    _add_serve_flags(parser)


def _add_tune_flags(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="as for serve")
    parser.add_settings(TuneSettings, "load")


def _add_models_flags(parser: Parser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="as one JSON array")


def _add_plan_flags(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="what to plan for, as told above")
    parser.add_settings(PlanSettings, "layout")


def _add_revoke_flags(parser: Parser) -> None:
    parser.add_argument("key_id", metavar="ID", help="as `unisono keys list` shows it")
    parser.add_settings(FileSettings, "key")


def _add_ctl_flags(parser: Parser) -> None:
    parser.add_argument("--socket", metavar="PATH", help="of the server [the only one here]")
    parser.add_argument("--json", dest="as_json", action="store_true", help="as JSON lines")


def _add_group(parser: Parser, nargs: str | None = None) -> None:
    parser.add_argument("group", metavar="GROUP", nargs=nargs, help="its number")
    parser.add_argument("--timeout", metavar="N", help="seconds for streams to end [any]")
    _add_ctl_flags(parser)


def _add_restart_flags(parser: Parser) -> None:
    _add_group(parser, "?")
    parser.add_argument("--rolling", action="store_true", help="all, one after another")


def _add_new_group_flags(parser: Parser) -> None:
    parser.add_argument("--name", metavar="NAME", help="what requests may call it")
    parser.add_argument("--tp", metavar="N", help="its ranks [as many as the first has]")
    parser.add_argument("--node", metavar="NODE", help="where it runs [any node with room]")
    _add_ctl_flags(parser)


def _add_logs_flags(parser: Parser) -> None:
    _add_ctl_flags(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines")


_ctl = partial(Command, module="ctl", takes_action=True)
_keys = partial(Command, module="keys", takes_action=True)

COMMANDS = (
    Command(
        "serve",
        "serve a model",
        "serve",
        arguments="[MODEL] [flags]",
        description=_SERVE_HELP,
        epilog=_SERVE_END,
        add=_add_serve_flags,
    ),
    Command(
        "run",
        "serve a model for one answer",
        "run",
        arguments="MODEL [PROMPT] [flags of serve]",
        description=_RUN_HELP,
        epilog=_SERVE_END,
        add=_add_run_flags,
        last="prompt",
    ),
    Command(
        "chat",
        "chat in the terminal",
        "chat",
        description=_CHAT_HELP,
        add=settings(ChatSettings, "chat"),
    ),
    Command(
        "config",
        "show the settings that serve would have, and where each comes from",
        "config",
        arguments="[--json] [MODEL] [flags of serve]",
        description=_CONFIG_HELP,
        epilog=_SERVE_END,
        add=_add_config_flags,
    ),
    Command(
        "plan",
        "say what a model takes and gives on devices, without either",
        "plan",
        arguments="[MODEL] [flags]",
        description=_PLAN_HELP,
        add=_add_plan_flags,
    ),
    Command(
        "models",
        "list the families of models that can be served",
        "models",
        arguments="[--json]",
        description="Families of models, the names files give them, and how each was checked.",
        add=_add_models_flags,
    ),
    Command(
        "top",
        "watch a running server",
        "top",
        description="Groups, latencies, load and processes of a running server; q quits.",
        add=settings(TopSettings, "top"),
    ),
    Command(
        "bench serve",
        "load a server and print throughput and latencies",
        "bench",
        description=_BENCH_HELP,
        add=settings(BenchSettings, "load"),
    ),
    Command(
        "bench sweep",
        "start servers over a grid of layouts and measure each",
        "bench_sweep",
        description=_BENCH_SWEEP_HELP,
        add=settings(SweepSettings, "sweep"),
    ),
    Command(
        "bench engine",
        "time an engine's steps by batch and context",
        "bench_engine",
        description=_BENCH_ENGINE_HELP,
        add=settings(EngineBenchSettings, "engine"),
    ),
    Command(
        "bench gateway",
        "measure what the gateway itself costs",
        "bench_gateway",
        description=_BENCH_GATEWAY_HELP,
        add=settings(GatewayBenchSettings, "load"),
    ),
    Command(
        "tune",
        "find by measuring how to serve a model here, and write the settings",
        "tune",
        arguments="[MODEL] [flags]",
        description=_TUNE_HELP,
        add=_add_tune_flags,
    ),
    Command(
        "calibrate",
        "measure this machine once, for plan and tune",
        "calibrate",
        description=_CALIBRATE_HELP,
        add=settings(CalibrateSettings, "calibrate"),
    ),
    _keys(
        "keys new",
        "make a key, show it once and keep its hash",
        add=settings(NewKeySettings, "key"),
    ),
    _keys("keys list", "show whose keys there are", add=settings(FileSettings, "key")),
    _keys("keys revoke", "remove a key", arguments="ID [flags]", add=_add_revoke_flags),
    _ctl("ctl list", "show groups, ranks and workers", add=_add_ctl_flags),
    _ctl(
        "ctl drain",
        "let a group's streams end, then stop it",
        arguments="GROUP [flags]",
        add=_add_group,
    ),
    _ctl("ctl add", "start one more group", add=_add_new_group_flags),
    _ctl(
        "ctl remove",
        "drain a group and forget it",
        arguments="GROUP [flags]",
        add=_add_group,
    ),
    _ctl(
        "ctl restart",
        "drain a group and start it again, or one after another",
        arguments="GROUP|--rolling [flags]",
        add=_add_restart_flags,
    ),
    _ctl(
        "ctl logs",
        "show the supervisor's last lines and what ranks said",
        add=_add_logs_flags,
    ),
)
