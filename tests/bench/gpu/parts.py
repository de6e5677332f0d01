"""What `make bench-gpu` measures, in parts that each end within minutes."""

from dataclasses import dataclass, field, replace
from typing import Any

BATCHES = [1, 4, 16, 64, 128, 256]
PROMPTS = [3, 512]
MODELS = ("Llama-2-7b", "Llama-2-13b")
# A part that takes longer is ended: whoever lends a card may do so by the ten minutes.
LIMIT_S = 470.0


# Patterns of paths below tests/backend, of what runs in Triton's interpreter elsewhere.
KERNEL_TESTS = {
    "layers": ("ops/triton", "distributed/test_one_shot.py"),
    "linears": ("linear/triton",),
    "sampling": ("sampling/test_device*.py", "engine/test_device_draws.py"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """kind: of measure.py. told: what it is called with. needs: packages beyond what all need."""

    name: str
    kind: str
    told: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


def all_parts(
    models: tuple[str, ...] = MODELS,
    batches: tuple[int, ...] = tuple(BATCHES),
    prompts: tuple[int, ...] = tuple(PROMPTS),
    device: str = "cuda",
    num_cards: int = 1,
    in_fp8: str = f"{MODELS[0]}-fp8",
) -> list[Part]:
    """Return the parts in the order in which they are worth most. in_fp8: the first model, its
    weights stored so."""
    points: dict[str, Any] = {"batches": list(batches), "prompts": list(prompts)}
    few: dict[str, Any] = {"batches": [b for b in batches if b <= 64], "prompts": list(prompts)[:1]}
    own = {"device": device}
    parts = [Part("device", "device", {**own})]
    steps = [Part(f"{name} bf16", "steps", {"model": name, **points, **own}) for name in models]
    parts.append(steps[0])
    # Each kernel is compiled for each shape that it is tried with, which takes a second or two.
    for whose, tests in KERNEL_TESTS.items():
        tried: dict[str, Any] = {"tests": list(tests)}
        parts.append(Part(f"kernels of {whose}", "kernels", tried, ("pytest", "hypothesis")))
    parts += steps[1:]
    first = models[0]
    for name, setting in (
        ("int4", {"quantization": "int4"}),
        ("fp8", {"model": in_fp8}),
        ("fp8 KV", {"kv_cache_dtype": "fp8"}),
    ):
        parts.append(Part(f"{first} {name}", "steps", {"model": first, **points, **own, **setting}))
    eager = {"model": first, **few, **own, "enforce_eager": True}
    parts.append(Part(f"{first} eager", "steps", eager))
    parts.append(Part("transformers", "peer", {"model": first, **few, **own}, ("transformers",)))
    streams = [b for b in batches if b in (1, 16, 64)] or list(batches)[:1]
    server = ("starlette", "hypercorn", "uvloop", "jinja2")
    parts.append(Part("server", "served", {"model": first, "streams": streams, **own}, server))
    parts.append(Part("two ranks on one card", "shared", {**own}, server))
    for ranks in (2, 4, 8):
        if ranks > num_cards:
            break
        parts.append(Part(f"sums of {ranks}", "sums", {"ranks": ranks, **own}))
        told = {"model": first, "streams": streams, **own, "options": ["--tp", str(ranks)]}
        parts.append(Part(f"server tp {ranks}", "served", told, server))
    return parts


def played_parts(parts: list[Part]) -> list[Part]:
    """Return the same for a card that is played: what they are called with is small."""
    small: dict[str, dict[str, Any]] = {
        "device": {"copy_bytes": 1 << 20, "side": 64},
        "kernels": {"tests": ["ops/triton/test_fp8.py"], "interprets": True},
        "steps": {"steps": 3, "block_size": 16, "kv_cache_bytes": 1 << 20},
        "sums": {"times": 3},
    }
    return [replace(part, told={**part.told, **small.get(part.kind, {}), "dry": True})
            for part in parts]  # fmt: skip
