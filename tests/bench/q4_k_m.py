"""A Llama of 1.5 billion random weights as a Q4_K_M file has them: `python -m tests.bench.q4_k_m`.

Shapes and formats are those of Qwen2.5-Coder-1.5B-Instruct Q4_K_M (198 matrices, 169 of them Q4_K,
29 Q6_K: the head, and in half of the layers attention's values and the MLP's way down). What it
says means nothing; what it costs is what such a file costs, any server of GGUF files can load it.
"""

import argparse
from pathlib import Path
from typing import Any

from backend.config.model_config import ModelConfig
from backend.config.tensors import HEAD, tensors_of
from backend.quant.weight_format import WeightFormat
from tests.backend.factories import tiny_config, write_mixed_gguf

SHAPE: dict[str, Any] = {
    "num_layers": 28,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_heads": 12,
    "num_kv_heads": 2,
    "head_dim": 128,
    "vocab_size": 151_936,
    "max_model_len": 32_768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
}
# Of 28 layers, those whose values and way down llama.cpp keeps in more bits: the first eighth, the
# last, and every third between.
EIGHTH = 28 // 8


def formats_of(config: ModelConfig) -> list[WeightFormat]:
    """Return the format of each matrix, in the order of tensors_of()."""
    shapes = tensors_of(config)
    return [_format_of(name, config) for name, info in shapes.items() if len(info.shape) == 2]


def _format_of(name: str, config: ModelConfig) -> WeightFormat:
    if name == HEAD:
        return WeightFormat.Q6_K
    if not name.endswith(("v_proj.weight", "down_proj.weight")):
        return WeightFormat.Q4_K
    layer = int(name.split(".")[2])
    is_edge = layer < EIGHTH or layer >= 7 * config.num_layers // 8
    has_more = is_edge or (layer - EIGHTH) % 3 == 2
    return WeightFormat.Q6_K if has_more else WeightFormat.Q4_K


def write(directory: Path) -> Path:
    """Write the file and return it."""
    config = tiny_config(tie_word_embeddings=False, attention_bias=False, **SHAPE)
    directory.mkdir(parents=True, exist_ok=True)
    return write_mixed_gguf(directory, formats_of(config), tie=False, **SHAPE)


def main() -> None:
    """Write the file where the argument says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    print(write(parser.parse_args().directory))


if __name__ == "__main__":
    main()
