"""Shows a plan to a person: tables of 80 to 120 columns, with units."""

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from backend.placement.prediction import Prediction
from gateway.planning.cache_table import CacheGroupRow, CacheTable
from gateway.planning.catalogue import entries
from gateway.planning.devices import Card, cards
from gateway.planning.plan import Plan
from gateway.planning.weight_table import WeightRow

GIB = 1 << 30
_KIND = {
    "grouped": "heads share keys",
    "full": "a key for each head",
    "latent": "compressed",
}
_BOUND = {
    "reading": "weights",
    "multiplying": "multiplying",
    "attention": "attention",
    "sums": "sums",
    "serial": "serial",
    "hops": "stages",
}
# A figure of the article's that differs by more from the true one is said to.
ARTICLE_SHARE = 0.02


def as_tables(plan: Plan) -> RenderableType:
    """Return the whole plan, for a console."""
    parts: list[RenderableType] = [_head(plan), "", _weights(plan), *_article(plan)]
    if plan.cache.bytes_per_sequence:
        parts += ["", _cache(plan), *_rule(plan)]
    if plan.cards:
        parts += ["", _cards(plan)]
    parts += ["", _layouts(plan)] if plan.layouts else ["", _verdict(plan)]
    if plan.refused:
        parts += ["", _refused(plan)]
    parts += ["", *_foot(plan)]
    return Padding(Group(*parts), (0, 0, 0, 0))


def known_models_and_cards() -> RenderableType:
    """Return what `--list` shows."""
    models = _table("Models of the built-in catalogue", "name", "on the hub", right=("parameters",))
    for entry in entries():
        count = entry.parameters or entry.about
        about = "" if entry.parameters else "~"
        models.add_row(entry.name, entry.hub, about + _billions(count))
    return Group(models, "", _known_cards())


def _known_cards() -> Table:
    names = ("memory", "bandwidth", "fp16", "link")
    table = _table("Cards", "name", right=names)
    for card in cards():
        table.add_row(card.name, *_figures(card))
    return table


def _figures(card: Card) -> Iterator[str]:
    yield f"{card.memory_gib:g} GiB"
    yield f"{card.bandwidth_gb_s:,.0f} GB/s"
    yield f"{card.tflops['fp16']:,.0f} TFLOPS"
    yield f"{card.link_gb_s:g} GB/s"


def _head(plan: Plan) -> Text:
    model, devices, load = plan.model, plan.devices, plan.load
    heads = f"{model.num_heads} heads"
    if model.num_kv_heads != model.num_heads:
        heads += f" on {model.num_kv_heads} keys"
    text = Text()
    text.append(model.name, "bold")
    text.append(f"  {_billions(model.num_parameters)} parameters, {model.num_layers} layers of ")
    text.append(f"{model.hidden_size:,}, {heads}, context {model.max_model_len:,}\n")
    text.append(f"  from {model.source}" + (f" ({model.note})" if model.note else "") + "\n", "dim")
    nodes = f"{devices.nodes} nodes of " if devices.nodes > 1 else ""
    each = devices.count // devices.nodes
    text.append(f"{nodes}{each} x " if devices.kind != "cpu" else "", "bold")
    text.append(devices.name, "bold")
    free = "free" if devices.kind == "cpu" else "each"
    text.append(f"  {devices.memory_bytes / GIB:,.1f} GiB {free}, computing in {model.dtype}\n")
    text.append(f"  {devices.source}\n", "dim")
    what = "texts" if model.makes_vectors else "completions"
    text.append(f"{load.concurrency:,} {what} at a time", "bold")
    text.append(f"  prompts of {load.prompt_tokens:,} tokens")
    if not model.makes_vectors:
        text.append(f", {load.output_tokens:,} tokens out")
    return text


def _weights(plan: Plan) -> Table:
    ranks = sorted({tp for row in plan.weights for tp in row.rank_bytes})
    split = [f"TP {tp}" for tp in ranks if tp > 1]
    table = _table("Weights, GB", "format", right=("whole", *split))
    table.add_column("kept so on")
    for row in plan.weights:
        cells = [_gb(row.rank_bytes[tp]) if tp in row.rank_bytes else "-" for tp in ranks if tp > 1]
        table.add_row(_format(row), _gb(row.model_bytes), *cells, row.serves_on)
    return table


def _format(row: WeightRow) -> Text:
    text = Text(row.format)
    if row.note:
        text.append(f"  {row.note}", "dim")
    return text


def _article(plan: Plan) -> Iterator[RenderableType]:
    figures = plan.model.article_gb
    if figures is None:
        return
    true = plan.model.num_parameters * 4 / 1e9
    text = Text('TitanML\'s "Harmonizing Multi-GPUs", Table 1: ', "dim")
    text.append(f"{figures[0]:.1f}, {figures[1]:.1f} and {figures[2]:.1f} GB in fp32, fp16, int8")
    count = figures[0] / 4
    if abs(figures[0] / true - 1) > ARTICLE_SHARE:
        text.append(
            f", of {count:.3g} billion parameters. There are {true / 4:.4g} billion: "
            f"{true:.1f}, {true / 2:.1f} and {true / 4:.1f} GB"
        )
    else:
        text.append(": the same, rounded")
    yield text


def _cache(plan: Plan) -> Table:
    cache, load = plan.cache, plan.load
    length = load.prompt_tokens + load.output_tokens
    names = ("a token", f"{length:,} tokens")
    table = _table(f"Cache, {cache.dtype}", "layers", "see", "keep", right=names)
    for row in cache.groups:
        table.add_row(*_cache_row(row))
    if cache.state_bytes:
        table.add_row("", "states", "float32, of fixed size", "", _bytes(cache.state_bytes))
    table.add_row(
        Text("a sequence", "bold"),
        "",
        "in blocks",
        _bytes(cache.bytes_per_token),
        Text(_bytes(cache.bytes_per_sequence), "bold"),
    )
    return table


def _cache_row(row: CacheGroupRow) -> tuple[str, ...]:
    sees = f"{row.window:,} tokens" if row.window else "all tokens"
    sizes = (_bytes(row.bytes_per_token), _bytes(row.bytes_per_sequence))
    return (str(row.layers), sees, _KIND[row.kind], *sizes)


def _rule(plan: Plan) -> Iterator[RenderableType]:
    """Yield what the rule of thumb says that the article quotes, beside what is kept."""
    cache: CacheTable = plan.cache
    if not cache.rule_bytes or not cache.bytes_per_token:
        return
    length = plan.load.prompt_tokens + plan.load.output_tokens
    rule, true = cache.rule_bytes, cache.bytes_per_token
    text = Text("Rule of thumb, 1 MiB a token for 13 billion parameters: ", "dim")
    text.append(f"{_bytes(rule)} a token, {_bytes(rule * length)} for {length:,}: ")
    text.append(f"{int(12 * GIB / (rule * length)):,} sequences fill a 3060's 12 GiB. ")
    if true < 0.7 * rule:
        text.append(f"Kept is {rule / true:.1f} times less: heads share keys, or layers a window.")
    else:
        text.append(f"Kept are {_bytes(true)}, so {int(12 * GIB / cache.bytes_per_sequence):,}.")
    yield text


def _cards(plan: Plan) -> Table:
    title = f"Common cards, in {plan.model.dtype}"
    names = ("memory", "needed", "sequences with it", "one card, no model")
    table = _table(title, "card", right=names)
    for card in plan.cards:
        needed = f"{card.needed}" if card.needed else "over 8"
        beside = f"{card.fitting_seqs:,}" if card.needed and card.fitting_seqs else "-"
        style = "" if card.needed else "dim"
        alone = f"{card.cache_alone:,}" if card.cache_alone else "-"
        memory = f"{card.memory_bytes / GIB:,.0f} GiB"
        table.add_row(card.name, memory, needed, beside, alone, style=style)
    return table


def _layouts(plan: Plan) -> Table:
    by = {
        "throughput": "tokens/s",
        "latency": "the time of a request",
        "fit": "sequences that fit",
    }[plan.objective]
    speed = ("tok/s", "TTFT", "ITL") if plan.devices.has_speed else ()
    names = ("model", "cache", "fit", *speed)
    table = _table(f"Layouts, best first by {by}", "layout", right=names)
    if plan.devices.has_speed:
        table.add_column("mostly", no_wrap=True)
    for place, each in enumerate(plan.layouts):
        table.add_row(*_layout_row(plan, each), style="bold green" if place == 0 else "")
    return table


def _layout_row(plan: Plan, each: Prediction) -> Iterator[str]:
    memory = each.memory
    yield f"{each.layout}" + ("*" if _idle(plan, each) else "")
    yield _gb(memory.weight_bytes)
    yield _gb(memory.kv_bytes + memory.state_bytes)
    yield f"{each.fitting_seqs:,}" if plan.cache.bytes_per_sequence else "-"
    if not plan.devices.has_speed:
        return
    yield f"{each.tokens_per_s:,.0f}"
    yield _seconds(each.ttft_s)
    yield _seconds(each.inter_token_s) if not plan.model.makes_vectors else "-"
    share = getattr(each.times, each.bound) / each.times.total
    yield f"{share:.0%} {_BOUND[each.bound]}"


def _idle(plan: Plan, each: Prediction) -> bool:
    """Whether a layout leaves devices over."""
    return plan.devices.kind != "cpu" and each.layout.num_ranks < plan.devices.count


def _refused(plan: Plan) -> Table:
    table = _table("Refused", "layout", "why", "what would make it fit")
    for each in plan.refused:
        table.add_row(f"{each.layout}", each.reason, each.change or "-")
    return table


def _verdict(plan: Plan) -> Text:
    missing = [each for each in plan.refused if each.missing_bytes]
    words = "fits nowhere here." if missing else "cannot be served so."
    text = Text(f"{plan.model.name} {words}", "bold red")
    if missing:
        least = min(missing, key=lambda each: each.missing_bytes)
        place = "the machine" if plan.devices.kind == "cpu" else "each device"
        text.append(f" {least.layout} comes nearest: {place} is short of ")
        text.append(f"{_bytes(least.missing_bytes)} for weights and one sequence.", "bold")
        changes = [each.change for each in (least, *plan.refused) if each.change]
        if changes:
            text.append(f" Cheapest: {changes[0]}.")
    return text


def _graphs(plan: Plan) -> str:
    if plan.devices.kind != "cuda":
        return ""
    return f", {_bytes(plan.graph_bytes)} of it for graphs" if plan.graph_bytes else ", no graphs"


def _foot(plan: Plan) -> Iterator[RenderableType]:
    notes = []
    if plan.layouts:
        best = plan.layouts[0]
        notes.append("model, cache: GB of a rank.")
        if plan.cache.bytes_per_sequence:
            notes.append("fit: sequences at once.")
        if any(_idle(plan, each) for each in plan.layouts):
            notes.append("* leaves devices idle.")
        if plan.devices.has_speed:
            notes.append("TTFT: to the first token, median; ITL: between tokens, mean.")
        notes.append(
            f"Beside weights and cache a rank takes {_bytes(best.memory.activation_bytes)} for a "
            f"step of {best.token_budget:,} tokens{_graphs(plan)}."
        )
        if plan.devices.has_speed and best.serial_share >= 0.005:
            notes.append(
                f"{best.serial_share:.0%} of a step is serial: more ranks make the best layout at "
                f"most {1 / best.serial_share:.1f} times as fast (Amdahl)."
            )
    if plan.devices.has_speed and plan.devices.kind == "cuda":
        notes.append("Sums over ranks are reckoned as NCCL does, by NVLink where a card has it.")
        if not plan.devices.source.startswith("measured"):
            notes.append("No figure of this card was measured: take speeds for an order of size.")
    if plan.devices.nodes > 1 or any(each.pp > 1 for each in plan.layouts):
        notes.append(
            "Stages (PP) pay where a model does not fit otherwise, or sums over ranks cost more "
            "than hops: each weight is read once for every part of the batch."
        )
    if plan.devices.nodes > 1:
        notes.append(
            f"Between nodes {plan.devices.network_bytes_per_s * 8 / 1e9:g} Gb/s and "
            f"{plan.devices.network_latency_s * 1e3:g} ms. Over them "
            "a token of stages (PP) takes a way for each stage, of TP one for each sum."
        )
    if notes:
        yield Text(" ".join(notes), "dim")
    if plan.command:
        yield Text.assemble("", ("Start it: ", ""), (plan.command, "bold"))


def _table(title: str, *left: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in left:
        table.add_column(name, no_wrap=name == "layout")
    for name in right:
        table.add_column(name, justify="right")
    return table


def _gb(count: float) -> str:
    gb = count / 1e9
    return f"{gb:,.2f}" if gb < 10 else f"{gb:,.1f}"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            shown = count / size
            return f"{shown:,.3g} {unit}" if shown < 999.5 else f"{shown:,.0f} {unit}"
    return f"{count:,.0f} bytes"


def _billions(count: float) -> str:
    return f"{count / 1e9:,.2f} billion" if count >= 1e9 else f"{count / 1e6:,.0f} million"


def _seconds(seconds: float) -> str:
    if seconds >= 0.9995:
        return f"{seconds:,.1f} s" if seconds >= 9.995 else f"{seconds:.2f} s"
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 0.0995 else f"{seconds * 1e3:,.1f} ms"
