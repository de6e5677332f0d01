"""A whole plan: what a model takes, what fits, and layouts in order. Data; tables.py shows it."""

import shlex

import msgspec

from backend.placement.batch_simulation import Load
from backend.placement.decode_sizes import captured_bytes
from backend.placement.fit import check_length
from backend.placement.memory_plan import longest_sequence, token_budget
from backend.placement.prediction import Prediction
from backend.placement.served_model import ServedModel
from gateway.planning.cache_table import CacheTable, cache_table
from gateway.planning.cards import CardFit, card_fits
from gateway.planning.devices import DeviceSet, cards
from gateway.planning.models import FoundModel
from gateway.planning.plan_settings import PlanSettings
from gateway.planning.ranking import Question, RefusedLayout, rank_layouts
from gateway.planning.serving import served_model
from gateway.planning.weight_table import WeightRow, weight_rows

# Columns of the table of weights.
SHOWN_RANKS = (1, 2, 4, 8)


class PlannedModel(msgspec.Struct, frozen=True):
    """num_parameters: of what is served. article_gb: what the article's Table 1 has for it."""

    name: str
    source: str
    family: str
    num_parameters: int
    note: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    max_model_len: int
    dtype: str
    makes_vectors: bool
    article_gb: tuple[float, float, float] | None


class PlannedDevices(msgspec.Struct, frozen=True):
    """memory_bytes: of each; of a CPU what is free. has_speed: whether layouts are predicted.
    count: of all nodes."""

    name: str
    kind: str
    count: int
    memory_bytes: int
    source: str
    has_speed: bool
    nodes: int = 1
    network_bytes_per_s: float = 0.0
    network_latency_s: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    """layouts: that fit, the best first. command: what starts the best, "" if none fits."""

    model: PlannedModel
    devices: PlannedDevices
    load: Load
    objective: str
    weights: list[WeightRow]
    cache: CacheTable
    activation_bytes: int
    graph_bytes: int
    cards: list[CardFit]
    layouts: list[Prediction]
    refused: list[RefusedLayout]
    command: str


def make_plan(
    model_name: str, found: FoundModel, devices: DeviceSet, settings: PlanSettings
) -> Plan:
    """Plan for a model. model_name: as it was asked for. Raises ModelError for settings that no
    layout could have."""
    model = served_model(found, devices, settings)
    config = found.config
    output = 0 if config.pooling is not None else settings.output
    load = Load(settings.prompt, output, settings.concurrency)
    check_length(model, load)
    budget = token_budget(model.settings, devices.profile.kind, config)
    cache = cache_table(model, load, found.num_parameters, budget)
    objective = settings.objective if devices.has_speed else "fit"
    fitting, refused = rank_layouts(Question(model, devices, load), objective, cards())
    best = fitting[0] if fitting else None
    sequence_bytes = cache.bytes_per_sequence
    name = found.entry.hub or model_name if found.entry else model_name
    return Plan(
        model=_planned_model(found, model),
        devices=PlannedDevices(
            devices.profile.name,
            devices.profile.kind,
            devices.count,
            devices.profile.memory_bytes,
            devices.profile.source,
            devices.has_speed,
            devices.nodes,
            devices.network.bandwidth if devices.nodes > 1 else 0.0,
            devices.network.latency_s if devices.nodes > 1 else 0.0,
        ),
        load=load,
        objective=objective,
        weights=weight_rows(found, model, SHOWN_RANKS),
        cache=cache,
        activation_bytes=best.memory.activation_bytes if best else 0,
        graph_bytes=captured_bytes(
            config, model.settings, devices.profile.kind, longest_sequence(model.settings, config)
        ),
        cards=[] if devices.is_cpu else card_fits(model, load, sequence_bytes, cards()),
        layouts=fitting,
        refused=refused,
        command=_command(name, model, devices, settings, best) if best else "",
    )


def _planned_model(found: FoundModel, model: ServedModel) -> PlannedModel:
    config, entry = found.config, found.entry
    return PlannedModel(
        name=found.name,
        source=found.source,
        family=config.family,
        num_parameters=found.num_parameters,
        note=entry.note if entry else "",
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        max_model_len=model.max_model_len,
        dtype=model.dtype,
        makes_vectors=config.pooling is not None,
        article_gb=entry.article_gb if entry else None,
    )


def _command(
    model_name: str,
    model: ServedModel,
    devices: DeviceSet,
    settings: PlanSettings,
    best: Prediction,
) -> str:
    """Return the line that serves the best layout."""
    words = [
        "unisono serve",
        shlex.quote(model_name) if model_name else "",
        f"--tp {best.tp} --dp {best.dp}",
    ]
    if best.pp > 1:
        words.append(f"--pp {best.pp}")
    if devices.nodes > 1:
        words.append("--launcher ray")
    if best.nodes > 1:
        words.append(f"--nodes {best.nodes}")
    if not devices.is_cpu:
        words.append("--device cuda")
    for name in ("dtype", "quantization", "kv_cache_dtype"):
        if (value := getattr(settings, name)) != "auto":
            words.append(f"--{name.replace('_', '-')} {value}")
    if settings.max_model_len:
        words.append(f"--max-model-len {settings.max_model_len}")
    if settings.expert_parallel:
        words.append("--expert-parallel")
    each = -(-settings.concurrency // best.dp)
    if each > type(model.settings)().max_num_seqs:
        words.append(f"--max-num-seqs {each}")
    return " ".join(filter(None, words))
