"""A Qwen3.5-0.8B of random weights as a GGUF file: `python -m tests.bench.qwen3_5 DIRECTORY`.

Shapes are those of Qwen3.5-0.8B: 24 layers, 18 of them delta nets. Weights are Q4_K, as in a
Q4_K_M file, but for the head, which is the embedding, and the way down of every second layer, which
are Q6_K, and the gates of heads, which are Q8_0. What it says means nothing; what it costs is what
such a file costs, and llama.cpp loads it, too.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from backend.quant.weight_format import WeightFormat
from tests.backend.factories import add_tokenizer, tiny_config, write_tokenizer
from tests.backend.stored_weights import quantized_of

HIDDEN, LAYERS, INTERMEDIATE, VOCABULARY = 1024, 24, 3584, 248_320
HEADS, KV_HEADS, HEAD_DIM, ROTATED = 8, 2, 256, 64
DELTA_HEADS, DELTA_DIM, TAPS = 16, 128, 4
CONTEXT = 65_536

Matrix = tuple[str, int, int, WeightFormat]


def matrices() -> Iterator[Matrix]:
    """Yield name, rows, columns and format of all that is multiplied."""
    yield "token_embd", VOCABULARY, HIDDEN, WeightFormat.Q6_K
    width = DELTA_HEADS * DELTA_DIM
    for index in range(LAYERS):
        for name, rows, columns in (
            delta_matrices(width) if is_delta(index) else attention_matrices()
        ):
            is_gate = name in ("ssm_alpha", "ssm_beta")
            weight_format = WeightFormat.Q8_0 if is_gate else WeightFormat.Q4_K
            yield f"blk.{index}.{name}", rows, columns, weight_format
        yield f"blk.{index}.ffn_gate", INTERMEDIATE, HIDDEN, WeightFormat.Q4_K
        yield f"blk.{index}.ffn_up", INTERMEDIATE, HIDDEN, WeightFormat.Q4_K
        down = WeightFormat.Q6_K if index % 2 else WeightFormat.Q4_K
        yield f"blk.{index}.ffn_down", HIDDEN, INTERMEDIATE, down


def is_delta(index: int) -> bool:
    """Whether a layer is a delta net: all but every fourth."""
    return (index + 1) % 4 != 0


def delta_matrices(width: int) -> list[tuple[str, int, int]]:
    """Return name, rows and columns of those of a delta net, of a width."""
    return [
        ("attn_qkv", 3 * width, HIDDEN),
        ("attn_gate", width, HIDDEN),
        ("ssm_alpha", DELTA_HEADS, HIDDEN),
        ("ssm_beta", DELTA_HEADS, HIDDEN),
        ("ssm_out", HIDDEN, width),
    ]


def attention_matrices() -> list[tuple[str, int, int]]:
    """Return name, rows and columns of those of a layer that attends."""
    return [
        ("attn_q", 2 * HEADS * HEAD_DIM, HIDDEN),
        ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
        ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN),
        ("attn_output", HIDDEN, HEADS * HEAD_DIM),
    ]


def vectors(rng: np.random.Generator) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Yield what is multiplied number by number."""
    yield "output_norm.weight", np.ones(HIDDEN)
    for index in range(LAYERS):
        layer = f"blk.{index}."
        yield f"{layer}attn_norm.weight", np.ones(HIDDEN)
        yield f"{layer}post_attention_norm.weight", np.ones(HIDDEN)
        if is_delta(index):
            channels = 3 * DELTA_HEADS * DELTA_DIM
            yield f"{layer}ssm_conv1d.weight", rng.normal(0, 0.5, (channels, TAPS))
            yield f"{layer}ssm_a", -rng.uniform(0.01, 16, DELTA_HEADS)
            yield f"{layer}ssm_dt.bias", np.ones(DELTA_HEADS)
            yield f"{layer}ssm_norm.weight", np.ones(DELTA_DIM)
        else:
            yield f"{layer}attn_q_norm.weight", np.ones(HEAD_DIM)
            yield f"{layer}attn_k_norm.weight", np.ones(HEAD_DIM)


def write(directory: Path) -> Path:
    """Write the file and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    config = tiny_config(vocab_size=VOCABULARY)
    write_tokenizer(directory, config)
    path = directory / "qwen3.5-0.8b-random-q4_k_m.gguf"
    writer = gguf.GGUFWriter(path, "qwen35")
    add_metadata(writer)
    add_tokenizer(writer, config, directory, ())
    for name, values in vectors(np.random.default_rng(0)):
        writer.add_tensor(name, values.astype(np.float32))
    for seed, (name, rows, columns, weight_format) in enumerate(matrices()):
        size = 0.3 if name == "token_embd" else columns**-0.5
        weight = quantized_of(weight_format, rows, columns, seed, size)
        writer.add_tensor(f"{name}.weight", weight.blocks, raw_dtype=weight_format.ggml_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_metadata(writer: gguf.GGUFWriter) -> None:
    """Write the sizes, as llama.cpp's converter does."""
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e7)
    writer.add_rope_dimension_count(ROTATED)
    writer.add_rope_dimension_sections([11, 11, 10, 0])
    writer.add_ssm_conv_kernel(TAPS)
    writer.add_ssm_state_size(DELTA_DIM)
    writer.add_ssm_group_count(DELTA_HEADS)
    writer.add_ssm_time_step_rank(DELTA_HEADS)
    writer.add_ssm_inner_size(DELTA_HEADS * DELTA_DIM)
    writer.add_full_attention_interval(4)
    writer.add_vocab_size(VOCABULARY)


def main() -> None:
    """Write the file where the argument says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    print(write(parser.parse_args().directory))


if __name__ == "__main__":
    main()
