"""What of a server is worth trying: layouts first, then one setting after another.

A choice is a name for people and settings of the engine, those that differ from the defaults.
Knows no measurements.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from backend.settings import EngineSettings

Values = Mapping[str, object]


class Choice(NamedTuple):
    """name: as tables have it. values: by the names of EngineSettings."""

    name: str
    values: Values


class Knob(NamedTuple):
    """A setting and what else it might be. is_lossy: whether answers become less exact."""

    name: str
    choices: tuple[Choice, ...]
    is_lossy: bool = False


class Load(NamedTuple):
    """What of a load decides which values make sense."""

    streams: int
    prompt_tokens: int
    max_tokens: int


def layout_choice(tp: int, dp: int, threads: int, pp: int = 1) -> Choice:
    """Name a layout. threads: a rank's, 0 where there is nothing to share."""
    parts = [("TP", tp), ("PP", pp), ("DP", dp)]
    words = " x ".join(f"{name} {number}" for name, number in parts if number > 1) or "TP 1"
    values: dict[str, object] = {"tp": tp, "dp": dp}
    if pp > 1:
        values["pp"] = pp
    if threads:
        values["threads"] = threads
        words += f" x {threads} thread" + ("s" if threads > 1 else "")
    return Choice(words, values)


def knobs(
    chosen: Values, load: Load, *, cores: int, levels: Sequence[str], allows_loss: bool
) -> Iterator[Knob]:
    """Yield what to try beside what is chosen, in the order of what it usually moves.

    levels: of our kernels that this processor has, best first.
    """
    settings = _settings(chosen)
    yield Knob("tokens a step", _budgets(load))
    yield Knob("sequences a step", _num_seqs(settings, load))
    yield Knob("threads a rank", _threads(settings, cores))
    yield Knob("tokens a block", (_choice("block_size", 16), _choice("block_size", 64)))
    # Older processors lower their clock where they use their widest instructions.
    yield Knob("kernels", tuple(_choice("kernels", level) for level in levels[1:2]))
    if allows_loss:
        yield Knob("activations", (_choice("activations", "int8"),), is_lossy=True)
        yield Knob("keys and values", (_choice("kv_cache_dtype", "int8"),), is_lossy=True)
        rounded = tuple(_choice("quantization", name) for name in ("int8", "int4"))
        yield Knob("weights", rounded, is_lossy=True)


def _settings(values: Values) -> EngineSettings:
    return EngineSettings(**values)  # type: ignore[arg-type]


def _choice(name: str, value: object) -> Choice:
    return Choice(f"{name} {value}", {name: value})


def _budgets(load: Load) -> tuple[Choice, ...]:
    """Small budgets let streams go on beside prompts, large ones read weights less often."""
    sizes = (128, 256, 1024, 2048)
    # A budget beyond all prompts that can meet is the same as the next one.
    most = load.streams * load.prompt_tokens
    return tuple(_choice("max_num_batched_tokens", size) for size in sizes if size < 2 * most)


def _num_seqs(settings: EngineSettings, load: Load) -> tuple[Choice, ...]:
    """Fewer sequences than streams make some wait and the others faster."""
    counts = {-(-load.streams // (part * settings.dp)) for part in (2, 4)}
    return tuple(
        _choice("max_num_seqs", count)
        for count in sorted(counts, reverse=True)
        if 1 <= count < min(settings.max_num_seqs, load.streams) and load.streams >= 8
    )


def _threads(settings: EngineSettings, cores: int) -> tuple[Choice, ...]:
    """One core less leaves a core to the gateway."""
    ranks = settings.num_ranks * settings.dp
    fewer = (cores - 1) // ranks
    share = settings.threads or max(1, cores // ranks)
    return (_choice("threads", fewer),) if 1 <= fewer < share else ()
