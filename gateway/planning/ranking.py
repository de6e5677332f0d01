"""Which layouts there are, in what order, and what would make a refused one fit.

Changes are tried from the cheapest on: a setting, then more of the devices, then another card.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from backend.config.errors import ModelError
from backend.placement.batch_simulation import Load
from backend.placement.device_profile import DeviceProfile
from backend.placement.fit import fit, missing_bytes
from backend.placement.layout import Layout
from backend.placement.prediction import Prediction, predict
from backend.placement.served_model import ServedModel
from backend.placement.stages import check_stages
from gateway.planning.devices import Card, DeviceSet
from gateway.planning.serving import reads_8_bits

# So many more of a card are looked at before a larger one.
MOST_CARDS = 16


class RefusedLayout(msgspec.Struct, frozen=True):
    """reason: in a start's words. missing_bytes: of a device's memory, where that is the reason.
    change: what is cheapest of what would make it fit; "": nothing that is known here."""

    tp: int
    dp: int
    reason: str
    missing_bytes: int
    change: str
    pp: int = 1
    nodes: int = 1

    @property
    def layout(self) -> Layout:
        return Layout(self.tp, self.dp, self.pp, self.nodes)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be laid out, where, and under which load."""

    model: ServedModel
    devices: DeviceSet
    load: Load


def layouts_of(devices: DeviceSet, num_layers: int = 1) -> list[Layout]:
    """Return every number of ranks with as many groups as there are devices for; of a CPU's cores,
    every number of ranks that leaves none over, each with its share as threads."""
    count, node = devices.count, devices.node_count
    if not devices.is_cpu:
        whole = [Layout(tp, devices.nodes * (node // tp)) for tp in range(1, node + 1)]
        return [*whole, *_spanning(devices), *_staged(devices, num_layers)]
    return [
        Layout(tp, number // tp // pp, pp)
        for number in _divisors(count)
        for tp in _divisors(number)
        for pp in _divisors(number // tp)
        if pp <= num_layers
    ]


def _spanning(devices: DeviceSet) -> Iterator[Layout]:
    """Yield tensor parallel layouts whose groups take several whole nodes each."""
    for nodes in _divisors(devices.nodes)[1:]:
        yield Layout(devices.node_count * nodes, devices.nodes // nodes, 1, nodes)


def _staged(devices: DeviceSet, num_layers: int) -> Iterator[Layout]:
    """Yield layouts with stages, in powers of two and in numbers that leave no device over: a group
    is on one node if it has room there, else on as few as its stages can be shared out over
    evenly."""
    node = devices.node_count
    for tp in _powers(node):
        for pp in _stages(devices.count // tp, num_layers):
            for nodes in range(1, devices.nodes + 1):
                each = tp * pp // nodes
                if pp % nodes == 0 and each <= node:
                    groups = devices.nodes // nodes * (node // each)
                    yield Layout(tp, groups, pp, nodes)
                    break


def _stages(most: int, num_layers: int) -> list[int]:
    """Return numbers of stages above one that so many ranks, and the layers, can be cut into."""
    found = {*_powers(most), *_divisors(most)} - {1}
    return sorted(pp for pp in found if pp <= num_layers)


def _divisors(number: int) -> list[int]:
    return [part for part in range(1, number + 1) if number % part == 0]


def _powers(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length())]


def rank_layouts(
    question: Question, objective: str, cards: Sequence[Card]
) -> tuple[list[Prediction], list[RefusedLayout]]:
    """Return layouts that fit, the best first, and those that do not.

    objective: throughput, latency or fit. cards: that may be named as larger ones.
    """
    fitting: list[Prediction] = []
    refused: list[tuple[Layout, str]] = []
    for layout in layouts_of(question.devices, question.model.config.num_layers):
        try:
            fitting.append(_predict(question, layout))
        except ModelError as error:
            reason = str(error).splitlines()[0]
            if layout.pp == 1 or not _is_known(question, layout, refused):
                refused.append((layout, reason))
    fitting.sort(key=lambda each: _order(each, objective), reverse=True)
    best = fitting[0].layout if fitting else None
    return fitting, [
        RefusedLayout(
            layout.tp,
            layout.dp,
            reason,
            _missing(question, layout),
            cheapest_change(question, layout, best, cards),
            layout.pp,
            layout.nodes,
        )
        for layout, reason in refused
    ]


def _predict(question: Question, layout: Layout) -> Prediction:
    devices = question.devices
    return predict(question.model, devices.profile, layout, question.load, devices.network)


def _is_known(question: Question, layout: Layout, refused: list[tuple[Layout, str]]) -> bool:
    """Whether a refusal of stages says no more than an earlier one: so many ranks cannot share a
    stage, or stages are none of this model's."""
    if layout.tp > _most_ranks(question.model):
        return True
    try:
        check_stages(question.model.config, layout.pp)
    except ModelError:
        return any(each.pp > 1 for each, _ in refused)
    return False


def _missing(question: Question, layout: Layout) -> int:
    try:
        return missing_bytes(question.model, question.devices.profile, layout, question.load)
    except ModelError:
        return 0


def _order(prediction: Prediction, objective: str) -> tuple[float, ...]:
    fewer_ranks = -prediction.tp * prediction.pp
    match objective:
        case "latency":
            return (-prediction.request_s, prediction.tokens_per_s, fewer_ranks)
        case "fit":
            return (prediction.fitting_seqs, prediction.tokens_per_s, fewer_ranks)
        case _:
            return (prediction.tokens_per_s, -prediction.request_s, fewer_ranks)


def cheapest_change(
    question: Question, layout: Layout, best: Layout | None, cards: Sequence[Card]
) -> str:
    """Return the first change that makes a layout fit, in words; "" if none does."""
    model, devices, load = question.model, question.devices, question.load
    if (most := _most_ranks(model)) < layout.tp:
        return f"--tp {most} or less" if best is None else f"take {best}"
    try:
        model.stages(layout.pp)
    except ModelError:
        return "leave --pp out" if best is None else f"take {best}"
    if layout.pp > 1 and best is not None:
        return f"take {best}"
    for words, changed in _settings(model, is_cpu=devices.is_cpu):
        if _fits(changed, devices.profile, layout, load):
            return words
    shorter = _shorter(question, layout)
    if shorter:
        return shorter
    for tp in range(layout.tp + 1, most + 1):
        if tp * layout.pp > devices.node_count or layout.pp > 1:
            break
        wider = Layout(tp, devices.nodes * (devices.node_count // tp))
        if _fits(model, devices.profile, wider, load):
            return f"--tp {tp}"
    if best is not None and layout.pp == 1 and best.pp > 1:
        return f"take {best}"
    return _more_devices(question, layout, most, cards)


def _settings(model: ServedModel, *, is_cpu: bool) -> Iterator[tuple[str, ServedModel]]:
    settings = model.settings
    has_choice = settings.kv_cache_dtype == "auto"
    if has_choice and reads_8_bits(model.config, model.kernels, is_cpu=is_cpu):
        yield "--kv-cache-dtype int8", model.changed(kv_cache_dtype="int8")
    if model.kernels == "native":
        for quantization in ("int8", "int4"):
            if settings.quantization == "auto":
                yield f"--quantization {quantization}", model.changed(quantization=quantization)
    if model.dtype == "float32":
        dense = ServedModel(model.config, model.stored, "bfloat16", model.kernels, settings)
        yield "--dtype bfloat16", dense


def _shorter(question: Question, layout: Layout) -> str:
    """Say how short prompts would have to be, where weights fit and one sequence does not."""
    load, profile = question.load, question.devices.profile
    prompt = load.prompt_tokens // 2
    while prompt >= 1:
        shorter = Load(prompt, load.output_tokens, 1)
        if _fits(question.model, profile, layout, shorter):
            return f"prompts of {prompt:,} tokens"
        if prompt < load.prompt_tokens // 64:
            break
        prompt //= 2
    return ""


def _more_devices(question: Question, layout: Layout, most: int, cards: Sequence[Card]) -> str:
    model, devices, load = question.model, question.devices, question.load
    if devices.is_cpu:
        return _more_memory(question, layout)
    for tp in range(devices.count + 1, min(most, MOST_CARDS) + 1):
        if _fits(model, devices.profile, Layout(tp), load):
            return f"{tp} x {devices.profile.name} with --tp {tp}"
    for card in cards:
        larger = card.memory_bytes > devices.profile.memory_bytes
        if larger and _fits(model, card.profile(), layout, load):
            return f"{layout.num_ranks} x {card.name} ({card.memory_gib:g} GiB)"
    for card in reversed(cards):
        for tp in range(1, min(most, MOST_CARDS) + 1):
            if _fits(model, card.profile(), Layout(tp), load):
                return f"{tp} x {card.name} ({card.memory_gib:g} GiB) with --tp {tp}"
    return ""


def _more_memory(question: Question, layout: Layout) -> str:
    profile = question.devices.profile
    for step in range(1, 40):
        memory_bytes = int(profile.memory_bytes * 1.25**step)
        larger = msgspec.structs.replace(profile, memory_bytes=memory_bytes)
        if _fits(question.model, larger, layout, question.load):
            return f"{memory_bytes / 1e9:,.0f} GB of free memory"
    return ""


def _most_ranks(model: ServedModel) -> int:
    config = model.config
    return min(map(config.num_kv_heads_of, config.attentions), default=config.num_kv_heads)


def _fits(model: ServedModel, profile: DeviceProfile, layout: Layout, load: Load) -> bool:
    try:
        fit(model, profile, layout, load)
    except ModelError:
        return False
    return True
