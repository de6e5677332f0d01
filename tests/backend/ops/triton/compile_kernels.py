"""Compile every kernel for a GPU that need not be here, and say what it takes: run as a process of
its own, since in one that interprets kernels none is compiled.

Takes a compute capability, 80 or 90, and "all" for every format. Prints a JSON object:
kernel and variant -> bytes of shared memory.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from backend.config.spec import Activation
from backend.distributed import one_shot_kernels
from backend.ops.gated_norm import Gate
from backend.ops.triton import (
    attended_keys,
    best_keys,
    convolution,
    decode_attention,
    draws,
    flat_draws,
    gates,
    latent,
    norms,
    prompt_attention,
    rotary,
    rules,
    scores,
    state_chunks,
    states,
    survey,
)
from backend.ops.triton.state_plan import CHUNK
from tests.backend.linear.triton.compile_cases import linear_cases

BF16, FLOAT, INTS, BYTES = "*bf16", "*fp32", "*i32", "*i8"


class Case(NamedTuple):
    """A kernel, the types of its arguments that are no int32, and its constants."""

    name: str
    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 3


def cases(*, is_whole: bool) -> Iterator[Case]:
    """is_whole: every format of linears, fp8, draws and states."""
    rows: dict[str, str] = dict.fromkeys(
        ("x", "delta", "weight", "total", "out", "gate", "heads"), BF16
    )
    rows["eps"] = "fp32"
    for has in (True, False):
        constants: dict[str, Any] = {"HAS_DELTA": has, "BLOCK": 4096}
        yield Case(f"add_rms_norm {has}", norms._add_rms_norm, rows, constants)
        constants = {"HAS_WEIGHT": has, "BLOCK": 128}
        yield Case(f"head_norm {has}", norms._head_norm, rows, constants)
    gated = {**rows, "weight": FLOAT, "gate_scale": "fp32"}
    for place in get_args(Gate):
        constants = {"GATE": place, "BLOCK": 128}
        yield Case(f"gated_norm {place}", norms._gated_norm, gated, constants)
    gate = {"gate_up": BF16, "out": BF16, **dict.fromkeys(("limit", "alpha", "offset"), "fp32")}
    for name in (*get_args(Activation), "clamped"):
        constants = {"ACTIVATION": name, "BLOCK": 1024}
        yield Case(f"gate_mul {name}", gates._gate_mul, gate, constants)
    shown = {"x": BF16, "buffers": BF16, "turn": "*i64"}
    yield Case("show_part", one_shot_kernels._show, shown, {"BLOCK": 1024})
    summed = {"x": BF16, "peers": "i64", "turn": "*i64"}
    yield Case("add_parts", one_shot_kernels._add, summed, {"SIZE": 4, "BLOCK": 1024})
    turned = {**dict.fromkeys(("qkv", "heads", "cos", "sin"), BF16), "slots": INTS}
    warps = rotary.num_warps(128)
    yield Case("rotate", rotary._rotate, turned, {"BLOCK": 64}, warps)
    attended = {
        **dict.fromkeys(("q", "out", "bias"), BF16),
        **dict.fromkeys(("sinks", "largest_of", "sums_of", "values_of"), FLOAT),
        **dict.fromkeys(("tables", "lens", "starts", "tiles"), INTS),
        **dict.fromkeys(("scale", "softcap"), "fp32"),
    }
    for bits, cache in ((16, BF16), (8, BYTES), ("fp8", "*u8"))[: 3 if is_whole else 2]:
        constants = {"TURNS": bits == 16, "IN_8_BITS": bits != 16, "BLOCK": 64}
        types = {**turned, "cache": cache}
        warps = rotary.num_warps(128)
        yield Case(f"rotate_store {bits}", rotary._rotate_store, types, constants, warps)
        shapes = ((128, False), (256, True), (512, True), (64, False))
        for dim, extras in shapes[: 4 if is_whole else 2]:
            # Heads of 64 as T5 has them, of an encoder.
            is_t5 = dim == 64
            constants = {
                "GROUP": 1 if is_t5 else 4,
                "HAS_SOFTCAP": extras,
                "HAS_WINDOW": extras,
                "IS_CAUSAL": not is_t5,
                "HAS_BIAS": is_t5,
                "IN_8_BITS": bits != 16,
                "WIDE": False,
                "KEYS": attended_keys.tile_keys(dim, 2 if bits == 16 else 1),
                "DIM": dim,
            }
            types = {**attended, "cache": cache}
            pieces = {"SPLIT": decode_attention.SPLIT_KEYS, "LOT": decode_attention.LOT}
            split = {**constants, **pieces, "ROWS": attended_keys.MIN_ROWS}
            warps = attended_keys.num_warps(dim)
            yield Case(
                f"attend_split {bits} {dim}", decode_attention._attend_split, types, split, warps
            )
            tile = {
                **constants,
                "HAS_SINKS": extras,
                "TOKENS": prompt_attention.tile_tokens(constants["GROUP"]),
                "ROWS": attended_keys.MAX_ROWS,
            }
            yield Case(
                f"attend_tile {bits} {dim}", prompt_attention._attend_tile, types, tile, warps
            )
    merged = {"HAS_SINKS": True, "MERGED": decode_attention.MERGED, "DIM": 128}
    yield Case("merge", decode_attention.merge_pieces, attended, merged)
    yield from latent_cases(attended)
    for case in linear_cases(is_whole=is_whole):
        yield Case(*case)
    if is_whole:
        yield from sampling_cases()
        yield from state_cases()


def latent_cases(attended: dict[str, str]) -> Iterator[Case]:
    """Rows of DeepSeek's, 512 and 64 numbers."""
    sizes = {"WIDE": False, "VALUE": 512, "REST": 64, "KEYS": latent.tile_keys(576, 2)}
    types = {**attended, "cache": BF16, "rows": BF16, "slots": INTS}
    loop = latent.NUM_WARPS, latent.NUM_STAGES
    pieces = {"HEADS": latent.HEADS, "SPLIT": decode_attention.SPLIT_KEYS, "LOT": latent.LOT}
    yield Case("latent_split", latent._attend_split, types, {**sizes, **pieces}, *loop)
    tile = {"TOKENS": 1, "HEADS": latent.ROWS}
    yield Case("latent_tile", latent._attend_tile, types, {**sizes, **tile}, *loop)
    yield Case("store_rows", latent._store_rows, types, {"BLOCK": 1024})


def state_cases() -> Iterator[Case]:
    """States of 128 by 128 numbers."""
    numbers = ("weight", "bias", "state", "rates", "biases", "skips", "inverses")
    integers = ("chains", "starts", "reads", "writes", "chunks", "key_heads", "groups")
    scalars = ("eps", "query_scale", "steps_from", "steps_to", "step_scale")
    types = {
        **dict.fromkeys(("x", "a", "b", "steps", "out"), BF16),
        **dict.fromkeys(numbers, FLOAT),
        **dict.fromkeys(integers, INTS),
        **dict.fromkeys(scalars, "fp32"),
    }
    taps = {"HAS_BIAS": True, "IS_SILU": True}
    constants = {**taps, "KEPT": 4, "BLOCK": convolution.CHANNELS}
    yield Case("causal_conv", convolution._causal_conv, types, constants)
    constants = {**taps, "CHUNK": CHUNK, "BLOCK": convolution.TILE_CHANNELS}
    yield Case("convolve_chunk", convolution._convolve_chunk, types, constants)
    rule = {"CHUNK": CHUNK, "KEY_DIM": 128}
    yield Case("invert_chunks", state_chunks.invert_chunks, types, rule)
    block = {"CHUNK": CHUNK, "BLOCK": states.COLUMNS}
    stages = 4, states.NUM_STAGES
    yield Case("delta_chunks", state_chunks.delta_chunks, types, {**block, "KEY_DIM": 128}, *stages)
    yield Case("ssm_chunks", state_chunks.ssm_chunks, types, {**block, "STATE_DIM": 128}, *stages)
    wide = {"CHUNK": CHUNK, "BLOCK": states._tile(64, 256), "STATE_DIM": 256}
    yield Case("ssm_chunks 256", state_chunks.ssm_chunks, types, wide, *stages)
    constants = {"KEY_DIM": 128, "BLOCK": states.COLUMNS}
    yield Case("delta_rule", states._delta_rule, types, constants)
    constants = {"STATE_DIM": 128, "BLOCK": states.COLUMNS}
    yield Case("ssm_scan", states._ssm_scan, types, constants)


def sampling_cases() -> Iterator[Case]:
    """A vocabulary of 128 k: 32 pieces."""
    tokens = dict.fromkeys(
        ("rows", "positions", "places", "tokens", "is_short", "last", "input_ids", "which", "masks",
         "token_positions", "greater", "ranks", "top_ids"), INTS,
    )  # fmt: skip
    types = {
        **tokens,
        **dict.fromkeys(("logits", "peaks", "sums"), FLOAT),
        **dict.fromkeys(("temperature", "top_p", "min_p", "logprobs", "top_logprobs"), "*fp64"),
        **dict.fromkeys(("keys", "merged", "top_k", "seeds", "choices", "records"), "*i64"),
    }
    for log_best in (-1, 5, 8):
        constants = {"IS_WARM": True, "LOG_PIECE": survey.MOST_LOG_PIECE, "LOG_BEST": log_best}
        yield Case(f"survey {log_best}", survey._survey, types, constants, 8)
        constants = {"PIECES": 32, "PER_PIECE": 16, "BEST": 1 << log_best if log_best > 0 else 0}
        yield Case(f"draw {log_best}", draws._draw, types, constants)
        if log_best > 0:
            constants = {"LOG_COUNT": log_best, "LOG_LISTS": 12 - log_best}
            yield Case(f"merge keys {log_best}", best_keys._merge, types, constants, 8)
    yield Case("draw_flat", flat_draws._draw_flat, types, {"PIECES": 32}, 8)
    yield Case("apply_rules", rules._apply_rules, types, {})
    yield Case("apply_masks", rules._apply_masks, types, {})
    yield Case("count_greater", scores._count_greater, types, {"PIECE": 4096})
    constants = {"PIECES": 32, "PER_PIECE": 16, "BEST": scores.NUM_BEST}
    yield Case("score", scores._score, types, constants)


def shared_bytes(case: Case, capability: int) -> int:
    """Compile one kernel down to machine code. Returns the shared memory of a program."""
    names = case.kernel.arg_names
    types = {
        name: "constexpr" if name in case.constants else case.types.get(name, "i32")
        for name in names
    }
    constants = {(names.index(name),): value for name, value in case.constants.items()}
    # As at a launch whose pointers and integers are all multiples of 16, as most are: only then
    # are loads wide enough for a loop's next tiles to lie in shared memory ahead of their turn.
    hints = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(names)
        if (types[name][0] == "*" or types[name] in ("i32", "i64"))
        and not case.kernel.params[at].do_not_specialize
        and not case.kernel.params[at].do_not_specialize_on_alignment
    }
    compiled = compile(
        ASTSource(case.kernel, types, constants, hints),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": case.num_warps, "num_stages": case.num_stages},
    )
    assert compiled.asm["cubin"]
    return int(compiled.metadata.shared)


if __name__ == "__main__":
    capability = int(sys.argv[1])
    print(
        json.dumps(
            {
                case.name: shared_bytes(case, capability)
                for case in cases(is_whole="all" in sys.argv)
            }
        )
    )
