"""Writes gateway/SETTINGS.md from the declarations of the settings; a test holds the two equal.

`python -m gateway.description.settings_page` writes the file anew. Knows no particular setting.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import inspect

from gateway.options import Option, options_of
from gateway.settings import GroupSettings, setting_options

PAGE = Path(__file__).parents[1] / "SETTINGS.md"

_HEAD = """\
# Settings

Made from the declarations by `python -m gateway.description.settings_page`; do not edit.

A setting is a flag of `unisono serve`, a variable of the environment and a key of a TOML file
(`--config unisono.toml`). Flags win over the environment, that over the file, that over the
default. Unknown names are errors, with a suggestion. `unisono config`, with the same flags, prints
what each setting would be and where it comes from, as a settings file (`--json` for machines).

Integers may have a suffix: `4k` is 4000 and `4K` is 4096 (so `m`, `M`, `g`, `G`); sizes may also
be written like `2GB` or `512MiB`, in the file in quotes. Flags of vLLM, SGLang and llama.cpp that
have an equal here are refused with its name.

Of a TitanML Takeoff deployment these variables are understood, below our own (flags, then
`UNISONO_*`, then `TAKEOFF_*`, then the file):

| variable | here |
|---|---|
| `TAKEOFF_MODEL_NAME` | MODEL; the port is 3000 then, unless anything says otherwise |
| `TAKEOFF_ACCESS_TOKEN` | `--hf-token`: of the hub, for gated models; no key of this server |
| `TAKEOFF_DEVICE` | `--device`: `cpu` or `cuda` (`api` is refused) |
| `TAKEOFF_BACKEND` | `multi-gpu`: one rank for each of `CUDA_VISIBLE_DEVICES` |
| `TAKEOFF_TENSOR_PARALLEL` | `--tp`, before what `TAKEOFF_BACKEND` says |
| `TAKEOFF_MAX_BATCH_SIZE` | `--max-num-seqs` |
| `TAKEOFF_MAX_SEQUENCE_LENGTH` | `--max-model-len` |
| `TAKEOFF_CONSUMER_GROUP` | `--group-name` |
| `TAKEOFF_QUANT_TYPE` | `--quantization`; `awq` as the files have it |
| `TAKEOFF_PAGE_CACHE_SIZE` | `--kv-cache-bytes`; a percentage changes nothing |
| `TAKEOFF_BODY_SIZE_LIMIT_BYTES` | `--max-body-bytes` |
| `TAKEOFF_LOG_LEVEL` | `--log-level`, in capitals, too |
| `TAKEOFF_PORT`, `TAKEOFF_MANAGEMENT_PORT` | `--port`, `--management-port` |

A wrong value is refused by the variable's name. Takeoff's other variables are named at start as
without effect, in one line; one that is not known, with the name that was probably meant. Other
backends (`awq`, `fast-ct2`, `full-ct2`, `ggml`, `hf`) change nothing.
"""
_TITLES = {
    "server": "The server: HTTP, supervision and finding the model",
    "engine": "The engine: every group of ranks",
}
_GROUPS = """\
Groups that are not alike are listed in the file instead, each with what differs; ranks without
`threads` share the cores that are left. A request that gives a group's name as its `model` (or as
Takeoff's `consumer_group`) goes to the groups of that name alone; one that gives the model's own
goes to those called `primary`, as all are that have no name, or if there are none, to those that
are called as the first is:

```toml
[[groups]]
ranks = 2
devices = ["cuda:0", "cuda:1"]

[[groups]]
name = "batch"
devices = ["cpu"]
threads = 4
```
"""


def settings_page() -> str:
    """Return the page, Markdown."""
    parts = [_HEAD]
    for name, options in setting_options().items():
        rows = [
            f"| `{_written(option)}` | {_values(option)} | {_default(option)} | {_text(option)} |"
            for option in options
        ]
        first = options[0]
        parts += [
            f"## {_TITLES[name]}",
            f"`[{name}]` in the file; `{_written(first)}` is `{first.name}` there and"
            f" `{first.variable}` in the environment, and so on.",
            _table(("flag", "takes", "default", "meaning"), rows),
        ]
    rows = [
        f"| `{option.name}` | {_values(option)} | {_default(option)} | {_text(option)} |"
        for option in options_of(GroupSettings, "groups")
    ]
    table = _table(("key", "takes", "default", "meaning"), rows)
    parts += ["## `[[groups]]`", _GROUPS.rstrip(), table]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _table(heads: Sequence[str], rows: Iterable[str]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *rows])


def _written(option: Option) -> str:
    """Return what stands on the command line: the model is its first argument, without a flag."""
    return "MODEL" if option.name == "model" else option.flag


def _values(option: Option) -> str:
    """Say what a setting takes: its words, its range or its kind."""
    match option.kind:
        case inspect.BoolType():
            return f"switch; `--no-{option.flag[2:]}` turns it off"
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case inspect.IntType() | inspect.FloatType() as number:
            kind = "integer" if isinstance(number, inspect.IntType) else "number"
            if number.ge is None:
                return kind
            kind += ", or a size" if option.is_size else ""
            return f"{kind}, {number.ge} {'or more' if number.le is None else f'to {number.le}'}"
        case inspect.VarTupleType():
            return "list, separated by commas"
        case inspect.StructType() | inspect.DictType():
            return "JSON object, or a table of the file"
        case _:
            return "text"


def _default(option: Option) -> str:
    if option.is_object:
        return ""
    match option.default:
        case bool(value):
            return "on" if value else "off"
        case "" | ():
            return ""
        case value:
            return f"`{value}`"


def _text(option: Option) -> str:
    return option.description.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(settings_page())
