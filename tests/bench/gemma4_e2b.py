"""A Gemma 4 of E2B's shapes and random weights, as a Q4_K_M file has them.

`python -m tests.bench.gemma4_e2b DIRECTORY` writes it: 2.8 GB, of which 1.3 are the table of what
layers are told of tokens. Matrices are Q4_K, the embedding, which is the head, Q6_K. What it says
means nothing; what it costs is what such a file costs, any server of GGUF files can load it.
"""

import argparse
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from backend.config.assemble import make_config
from backend.config.families.gemma4 import FAMILY
from backend.config.fields import Fields
from backend.config.model_config import ModelConfig
from backend.config.tensors import EMBEDDING, tensors_of
from backend.quant.weight_format import WeightFormat
from tests.backend.factories import add_byte_tokenizer
from tests.backend.stored_weights import quantized_of

SHAPE: dict[str, Any] = {
    "hidden_size": 1536,
    "intermediate_size": 6144,
    "num_hidden_layers": 35,
    "num_attention_heads": 8,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "global_head_dim": 512,
    "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 7,
    "num_kv_shared_layers": 20,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 256,
    "vocab_size": 262_144,
    "final_logit_softcapping": 30.0,
}
# Rows of a matrix are the same again after so many: random numbers take their time.
_ROWS = 4096


class _EveryName(set[str]):
    """Names of a file that has whatever is looked for."""

    def __contains__(self, name: object) -> bool:
        return True


def config() -> ModelConfig:
    """Return the configuration of the model."""
    fields = Fields("huggingface", SHAPE, {}, {}, FAMILY.defaults)
    return make_config(
        FAMILY,
        fields,
        name="gemma4-e2b",
        vocab_size=fields.integer("vocab_size"),
        tie_word_embeddings=True,
        eos_token_ids=(2,),
        bos_token_id=1,
        stored_dtype="Q4_K",
    )


def write(directory: Path) -> Path:
    """Write the file and return it."""
    model = config()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "gemma4-e2b-q4_k_m.gguf"
    writer = gguf.GGUFWriter(path, "gemma4")
    _add_metadata(writer, model)
    add_byte_tokenizer(writer, model, directory)
    sources, _ = FAMILY.gguf_names.sources(model, _EveryName())
    for number, (name, info) in enumerate(tensors_of(model).items()):
        _add_tensor(writer, sources[name].name, info.shape, name == EMBEDDING, number)
    factors = np.array([1.0] * 64 + [1e30] * 192, np.float32)
    writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], is_embedding: bool, seed: int
) -> None:
    if len(shape) == 1:
        writer.add_tensor(name, np.ones(shape, np.float32))
        return
    stored_as = WeightFormat.Q6_K if is_embedding else WeightFormat.Q4_K
    rows = min(shape[0], _ROWS)
    blocks = quantized_of(stored_as, rows, shape[1], seed, shape[1] ** -0.5).blocks
    blocks = np.tile(blocks, (-(-shape[0] // rows), 1))[: shape[0]]
    writer.add_tensor(name, blocks, raw_dtype=stored_as.ggml_type)


def _add_metadata(writer: gguf.GGUFWriter, model: ModelConfig) -> None:
    """As the converter of llama.cpp does."""
    layers = model.spec.layers
    writer.add_vocab_size(model.vocab_size)
    writer.add_block_count(len(layers))
    writer.add_context_length(model.max_model_len)
    writer.add_embedding_length(model.hidden_size)
    writer.add_head_count(model.num_heads)
    writer.add_head_count_kv(model.num_kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    width = SHAPE["intermediate_size"]
    first = len(layers) - SHAPE["num_kv_shared_layers"]
    writer.add_feed_forward_length([width * (1 + (i >= first)) for i in range(len(layers))])
    writer.add_shared_kv_layers(SHAPE["num_kv_shared_layers"])
    writer.add_embedding_length_per_layer_input(SHAPE["hidden_size_per_layer_input"])
    writer.add_sliding_window(512)
    writer.add_sliding_window_pattern([kind != "full_attention" for kind in SHAPE["layer_types"]])
    writer.add_final_logit_softcapping(SHAPE["final_logit_softcapping"])
    writer.add_rope_freq_base(1e6)
    writer.add_rope_freq_base_swa(1e4)
    for add, dim in (
        (writer.add_key_length, 512),
        (writer.add_value_length, 512),
        (writer.add_rope_dimension_count, 512),
        (writer.add_key_length_swa, 256),
        (writer.add_value_length_swa, 256),
        (writer.add_rope_dimension_count_swa, 256),
    ):
        add(dim)


def main() -> None:
    """Write the file where the argument says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    print(write(parser.parse_args().directory))


if __name__ == "__main__":
    main()
