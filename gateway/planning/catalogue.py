"""Shapes of well-known models, as their config.json has them: catalogue/*.json, a family a file.

An entry is a name, its name on the hub, how many parameters its card counts, and the fields that a
configuration is made of. tests hold the count of each against that of its shapes.
"""

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

DIRECTORY = Path(__file__).with_name("catalogue")
# What names of tuned variants end in, whose shapes are those of the model.
_QUANTIZED = re.compile(
    r"[-_.](?:quantized[-_.])?(fp8|awq|gptq-int4|gptq-int8|w4a16|w8a8|fp8-dynamic)$", re.IGNORECASE
)
_GPTQ: dict[str, Any] = {"quant_method": "gptq", "group_size": 128, "sym": True, "desc_act": False}
# What such names mean most often: groups or blocks of 128.
_QUANTIZATIONS: dict[str, dict[str, Any]] = {
    "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"},
    "gptq-int4": _GPTQ | {"bits": 4},
    "gptq-int8": _GPTQ | {"bits": 8},
}
_COMPRESSED = {
    "w4a16": ("pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 128}),
    "w8a8": ("int-quantized", {"num_bits": 8, "strategy": "channel"}),
    "fp8-dynamic": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
}
_VARIANT = re.compile(r"[-_](hf|chat|instruct|it|base|pt|thinking|2507|qat.*)$", re.IGNORECASE)


class CatalogueEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """parameters: exactly, as the card or its files count them; about: where only a round figure is
    published, or one of a model that does more than text. note: what the figure is of. article_gb:
    what Table 1 of TitanML's "Harmonizing Multi-GPUs" has for it in fp32, fp16 and int8."""

    name: str
    hub: str
    config: dict[str, Any]
    parameters: int = 0
    about: float = 0.0
    note: str = ""
    article_gb: tuple[float, float, float] | None = None


@cache
def entries() -> tuple[CatalogueEntry, ...]:
    """Return all entries, by family and size."""
    found: list[CatalogueEntry] = []
    for path in sorted(DIRECTORY.glob("*.json")):
        found += msgspec.json.decode(path.read_bytes(), type=list[CatalogueEntry])
    return tuple(found)


def find_entry(name: str) -> CatalogueEntry | None:
    """Return the entry that a name means: its own, the hub's, or that of a tuned variant."""
    wanted = _key(name)
    for entry in entries() if wanted else ():  # not all are on the hub
        if wanted in (_key(entry.name), _key(entry.hub)):
            return entry
    if quantized := _QUANTIZED.search(name):
        dense = find_entry(name[: quantized.start()])
        return dense and _quantized(dense, name, quantized[1].lower())
    shorter = _VARIANT.sub("", name)
    return find_entry(shorter) if shorter != name else None


def _quantized(entry: CatalogueEntry, name: str, kind: str) -> CatalogueEntry:
    """Return a model whose weights are stored as its name says. name: as it was asked for."""
    if kind in _COMPRESSED:
        layout, weights = _COMPRESSED[kind]
        group = {"targets": ["Linear"], "weights": {"type": "int", "symmetric": True} | weights}
        stored = {
            "quant_method": "compressed-tensors",
            "format": layout,
            "config_groups": {"group_0": group},
        }
    else:
        stored = _QUANTIZATIONS[kind]
    note = f"taken to be stored as {kind} most often is"
    return msgspec.structs.replace(
        entry,
        name=name.rpartition("/")[2],
        hub=name,
        config={**entry.config, "quantization_config": stored},
        note=", ".join(filter(None, [entry.note, note])),
        article_gb=None,
    )


def nearest_names(name: str) -> list[str]:
    """Return names that may have been meant, the nearest first."""
    names = {entry.name.lower(): entry.name for entry in entries()}
    asked = name.rpartition("/")[2].lower()
    close = difflib.get_close_matches(asked, names, n=3, cutoff=0.5)
    inside = [key for key in names if asked and asked in key]
    return [names[key] for key in close or inside[:3]]


def _key(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.rpartition("/")[2].lower())
