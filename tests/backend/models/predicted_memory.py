"""What a plan says ranks will hold, from config.json alone, beside what they came to hold."""

import json
from pathlib import Path
from typing import Any

from backend.config.huggingface import config_of_fields
from backend.engine.engine import Engine
from backend.placement.batch_simulation import Load
from backend.placement.device_profile import DeviceProfile, MultiplyRate
from backend.placement.fit import fit
from backend.placement.known_weights import DescribedWeights
from backend.placement.layout import Layout
from backend.placement.served_model import ServedModel
from backend.quant.kept_weights import KernelKind
from backend.settings import EngineSettings

BOX = DeviceProfile(
    name="box",
    kind="cpu",
    memory_bytes=1 << 34,
    read_bandwidth=1e9,
    multiply={"fp32": MultiplyRate(1e9)},
)


def predicted_bytes(
    directory: Path, tp: int, dtype: str, kernels: KernelKind, **settings: Any
) -> tuple[int, int]:
    """Return the fullest rank's weights, and its cache with states. settings: of the engine."""
    fields = json.loads((directory / "config.json").read_text())
    config = config_of_fields(fields, "tiny")
    told = EngineSettings(**settings)
    model = ServedModel(config, DescribedWeights(fields, config), dtype, kernels, told)
    plan = fit(model, BOX, Layout(tp), Load(8, 0 if config.pooling else 8, 1)).plan
    weights = plan.rank_memory.weight_bytes + plan.rank_memory.packed_bytes
    return weights, plan.kv_bytes + plan.states.bytes


def held_bytes(engine: Engine) -> tuple[int, int]:
    """Return what a rank came to hold: weights, and its cache with states."""
    cache = engine.runner._kv_cache
    num_layers = engine.config.num_layers
    states = [each for index in range(num_layers) for each in cache.states.layer(index)]
    return engine.model.weight_bytes, cache.data.nbytes + sum(each.nbytes for each in states)
