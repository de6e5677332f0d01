"""A Qwen3.5 of random weights as a GGUF file: `python -m tests.bench.qwen3_5 DIRECTORY`.

Shapes are those of 0.8B, 24 layers, 18 of them delta nets, or, with `--shape`, of the first 4 of
9B's 32 or of 35B-A3B's 40 layers, 3 of them delta nets. Weights are Q4_K, as in a Q4_K_M file, but
for the head and the way down of every second layer, which are Q6_K, and the gates of heads, which
are Q8_0. What it says means nothing; what it costs is what such a file costs, and llama.cpp loads
it, too.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from backend.quant.weight_format import WeightFormat
from tests.backend.factories import add_tokenizer, tiny_config, write_tokenizer
from tests.backend.stored_weights import quantized_of

VOCABULARY, HEAD_DIM, ROTATED = 248_320, 256, 64
DELTA_DIM, TAPS = 128, 4
CONTEXT = 65_536


@dataclass(frozen=True, slots=True)
class Shape:
    """delta_heads: of keys and of values. intermediate: of the MLP, or of each expert and of the
    one that all tokens share. experts: how many there are, and how many a token goes to. has_head:
    whether it is another matrix than the embedding."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    delta_heads: tuple[int, int]
    experts: tuple[int, int] = (0, 0)
    kv_heads: int = 2
    has_head: bool = True

    @property
    def kind(self) -> str:
        """llama.cpp's name of the family."""
        return "qwen35moe" if self.experts[0] else "qwen35"

    @property
    def value_width(self) -> int:
        """Width of a delta net's values, all heads together."""
        return self.delta_heads[1] * DELTA_DIM

    @property
    def channels(self) -> int:
        """Width of what a delta net's convolution takes: queries, keys and values."""
        return 2 * self.delta_heads[0] * DELTA_DIM + self.value_width


SHAPES = {
    "0.8b": Shape(1024, 24, 3584, 8, (16, 16), has_head=False),
    "9b": Shape(4096, 4, 12_288, 16, (16, 32), kv_heads=4),
    "35b-a3b": Shape(2048, 4, 512, 16, (16, 32), (256, 8)),
}

# name, sizes but the last, the last, which is cut into blocks, and the format
Matrix = tuple[str, tuple[int, ...], int, WeightFormat]
Q4, Q6, Q8 = WeightFormat.Q4_K, WeightFormat.Q6_K, WeightFormat.Q8_0


def matrices(shape: Shape) -> Iterator[Matrix]:
    """Yield all that is multiplied."""
    yield "token_embd", (VOCABULARY,), shape.hidden, Q4 if shape.has_head else Q6
    if shape.has_head:
        yield "output", (VOCABULARY,), shape.hidden, Q6
    for index in range(shape.layers):
        parts = delta_matrices(shape) if is_delta(index) else attention_matrices(shape)
        down = Q6 if index % 2 else Q4
        for name, rows, columns, kind in [*parts, *mlp_matrices(shape, down)]:
            yield f"blk.{index}.{name}", rows, columns, kind


def is_delta(index: int) -> bool:
    """Whether a layer is a delta net: all but every fourth."""
    return (index + 1) % 4 != 0


def delta_matrices(shape: Shape) -> list[Matrix]:
    """Return those of a delta net."""
    heads = shape.delta_heads[1]
    return [
        ("attn_qkv", (shape.channels,), shape.hidden, Q4),
        ("attn_gate", (shape.value_width,), shape.hidden, Q4),
        ("ssm_alpha", (heads,), shape.hidden, Q8),
        ("ssm_beta", (heads,), shape.hidden, Q8),
        ("ssm_out", (shape.hidden,), shape.value_width, Q4),
    ]


def attention_matrices(shape: Shape) -> list[Matrix]:
    """Return those of a layer that attends."""
    width = shape.heads * HEAD_DIM
    return [
        ("attn_q", (2 * width,), shape.hidden, Q4),
        ("attn_k", (shape.kv_heads * HEAD_DIM,), shape.hidden, Q4),
        ("attn_v", (shape.kv_heads * HEAD_DIM,), shape.hidden, Q4),
        ("attn_output", (shape.hidden,), width, Q4),
    ]


def mlp_matrices(shape: Shape, down: WeightFormat) -> Iterator[Matrix]:
    """Yield those of an MLP, or of experts and the one beside them. down: a format."""
    kinds: list[tuple[str, tuple[int, ...]]] = [("", ())]
    if shape.experts[0]:
        kinds = [("_exps", (shape.experts[0],)), ("_shexp", ())]
    for suffix, count in kinds:
        for name in ("ffn_gate", "ffn_up"):
            yield f"{name}{suffix}", (*count, shape.intermediate), shape.hidden, Q4
        yield f"ffn_down{suffix}", (*count, shape.hidden), shape.intermediate, down


def vectors(
    shape: Shape, rng: np.random.Generator
) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Yield what is multiplied number by number, and routers."""
    heads = shape.delta_heads[1]
    yield "output_norm.weight", np.ones(shape.hidden)
    for index in range(shape.layers):
        layer = f"blk.{index}."
        yield f"{layer}attn_norm.weight", np.ones(shape.hidden)
        yield f"{layer}post_attention_norm.weight", np.ones(shape.hidden)
        if is_delta(index):
            yield f"{layer}ssm_conv1d.weight", rng.normal(0, 0.5, (shape.channels, TAPS))
            yield f"{layer}ssm_a", -rng.uniform(0.01, 16, heads)
            yield f"{layer}ssm_dt.bias", np.ones(heads)
            yield f"{layer}ssm_norm.weight", np.ones(DELTA_DIM)
        else:
            yield f"{layer}attn_q_norm.weight", np.ones(HEAD_DIM)
            yield f"{layer}attn_k_norm.weight", np.ones(HEAD_DIM)
        if shape.experts[0]:
            size = shape.hidden**-0.5
            yield (
                f"{layer}ffn_gate_inp.weight",
                rng.normal(0, size, (shape.experts[0], shape.hidden)),
            )
            yield f"{layer}ffn_gate_inp_shexp.weight", rng.normal(0, size, shape.hidden)


def write(directory: Path, name: str = "0.8b") -> Path:
    """Write the file of a shape and return it."""
    shape = SHAPES[name]
    directory.mkdir(parents=True, exist_ok=True)
    config = tiny_config(vocab_size=VOCABULARY)
    write_tokenizer(directory, config)
    path = directory / f"qwen3.5-{name}-random-q4_k_m.gguf"
    writer = gguf.GGUFWriter(path, shape.kind)
    add_metadata(writer, shape)
    add_tokenizer(writer, config, directory, ())
    for vector, values in vectors(shape, np.random.default_rng(0)):
        writer.add_tensor(vector, values.astype(np.float32))
    for seed, (matrix, rows, columns, weight_format) in enumerate(matrices(shape)):
        size = 0.3 if matrix == "token_embd" else columns**-0.5
        count = int(np.prod(rows))
        weight = quantized_of(weight_format, count, columns, seed, size)
        blocks = weight.blocks.reshape(*rows, -1)
        writer.add_tensor(f"{matrix}.weight", blocks, raw_dtype=weight_format.ggml_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """Write the sizes, as llama.cpp's converter does."""
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    if shape.experts[0]:
        writer.add_expert_count(shape.experts[0])
        writer.add_expert_used_count(shape.experts[1])
        writer.add_expert_feed_forward_length(shape.intermediate)
        writer.add_expert_shared_feed_forward_length(shape.intermediate)
    else:
        writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e7)
    writer.add_rope_dimension_count(ROTATED)
    writer.add_rope_dimension_sections([11, 11, 10, 0])
    writer.add_ssm_conv_kernel(TAPS)
    writer.add_ssm_state_size(DELTA_DIM)
    writer.add_ssm_group_count(shape.delta_heads[0])
    writer.add_ssm_time_step_rank(shape.delta_heads[1])
    writer.add_ssm_inner_size(shape.value_width)
    writer.add_full_attention_interval(4)
    writer.add_vocab_size(VOCABULARY)


def main() -> None:
    """Write the file where the argument says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="0.8b")
    args = parser.parse_args()
    print(write(args.directory, args.shape))


if __name__ == "__main__":
    main()
