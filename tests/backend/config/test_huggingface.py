"""Rules of reading config.json, generation_config.json and the list of weight files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from backend.config.cache_groups import CacheGroup, cache_groups
from backend.config.errors import ModelError
from backend.config.foreign import ModelImpl
from backend.config.huggingface import config_of_fields, read_config
from backend.config.load import load_config
from backend.config.rope import Rope, RopeScaling
from backend.config.spec import MLP
from tests.backend.factories import rope_of, tiny_config, write_tiny_llama


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny")


def edit(path: Path, **fields: Any) -> None:
    """Change fields of a JSON file; ... removes one."""
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def refusal(directory: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_config(directory)
    assert 1 <= len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_what_was_written_is_read(model: Path) -> None:
    assert load_config(model) == tiny_config()


def test_stored_dtype_is_what_the_tensors_have(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "half", dtype="bfloat16")
    edit(model / "config.json", dtype="float32", torch_dtype="float32")
    assert load_config(model).stored_dtype == "bfloat16"


def test_absent_and_null_fields_take_a_llamas_defaults(model: Path) -> None:
    absent = ["rms_norm_eps", "rope_parameters", "max_position_embeddings", "attention_bias"]
    fields = dict.fromkeys([*absent, "mlp_bias", "hidden_act", "tie_word_embeddings"], ...)
    edit(model / "config.json", head_dim=None, num_key_value_heads=None, **fields)
    config = load_config(model)
    assert (config.head_dim, config.num_kv_heads, config.max_model_len) == (8, 8, 2048)
    assert (config.spec.norm.eps, rope_of(config)) == (1e-6, Rope(8, 10000.0))
    layer = config.spec.layers[0]
    assert isinstance(layer.mlp, MLP) and not layer.mlp.has_bias
    assert not (layer.attends.qkv_bias or layer.attends.out_bias or config.tie_word_embeddings)


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
LLAMA3_SCALING = RopeScaling("llama3", 8.0, 1.0, 4.0, 256)


@pytest.mark.parametrize(
    ("fields", "scaling"),
    [
        ({"rope_theta": 5e5, "rope_scaling": None}, None),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}},
            RopeScaling("linear", 2.0),
        ),
        ({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3"} | LLAMA3}, LLAMA3_SCALING),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, None),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5} | LLAMA3},
            LLAMA3_SCALING,
        ),
    ],
)
def test_both_layouts_of_rotary_parameters_are_read(
    model: Path, fields: dict[str, Any], scaling: RopeScaling | None
) -> None:
    edit(model / "config.json", **({"rope_parameters": ...} | fields))
    assert rope_of(load_config(model)) == Rope(8, 5e5, scaling)


@pytest.mark.parametrize(
    ("in_config", "in_generation", "expected"),
    [
        (2, None, (2,)),
        ([2, 0], ..., (2, 0)),
        (2, [7, 2], (7, 2)),
        (2, 0, (0,)),
        (None, None, ()),
    ],
)
def test_end_ids_of_the_generation_config_win(
    model: Path, in_config: Any, in_generation: Any, expected: tuple[int, ...]
) -> None:
    edit(model / "config.json", eos_token_id=in_config)
    edit(model / "generation_config.json", eos_token_id=in_generation)
    assert load_config(model).eos_token_ids == expected


def test_end_ids_need_no_generation_config(model: Path) -> None:
    (model / "generation_config.json").unlink()
    assert load_config(model).eos_token_ids == (2,)


def test_hub_snapshot_has_its_repositorys_name(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--Some-Org--tiny-llama" / "snapshots" / "0123abcd"
    assert load_config(write_tiny_llama(snapshot)).name == "Some-Org/tiny-llama"


def test_relative_directory_has_its_own_name(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    assert load_config(Path()).name == "tiny"


def test_window_as_long_as_the_context_changes_nothing(model: Path) -> None:
    edit(model / "config.json", architectures=["MistralForCausalLM"], sliding_window=512)
    assert cache_groups(
        [layer.attends.window for layer in load_config(model).spec.layers], 512
    ) == (CacheGroup((0, 1)),)


def test_custom_code_is_neither_run_nor_in_the_way(model: Path) -> None:
    edit(model / "config.json", auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    (model / "modeling_evil.py").write_text("raise SystemExit('ran')")
    assert load_config(model) == tiny_config()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architectures": None, "model_type": "mamba"}, "architectures is missing, so nobody"),
        ({"architectures": None}, '": ["LlamaForCausalLM"], perhaps'),
        ({"quantization_config": {"quant_method": "hqq"}}, "quant_method 'hqq' is not supported"),
        (
            {"hidden_act": "gelu"},
            "hidden_act 'gelu' is not supported; silu\nperhaps --model-impl transformers serves it",
        ),
        ({"rope_parameters": {"rope_type": "mrope"}}, "rope scaling 'mrope' is not supported"),
        ({"partial_rotary_factor": 0.5}, "0.5: transformers' class turns whole heads"),
        ({"use_sliding_window": 1}, "use_sliding_window is not known"),
        ({"rope_scaling": True}, "rope_scaling is True, not an object"),
        ({"partial_rotary_factor": "half"}, "partial_rotary_factor is 'half', not a number"),
        ({"query_pre_attn_scalar": 8}, "query_pre_attn_scalar is not known for llama models"),
        ({"hidden_size": "64"}, "hidden_size is '64', not an integer"),
        ({"hidden_size": ...}, "hidden_size is missing"),
        ({"num_attention_heads": 0, "head_dim": None}, "num_attention_heads must be above 0"),
        ({"num_attention_heads": 7}, "num_attention_heads 7 is not a multiple of num_key_value_h"),
        ({"num_hidden_layers": -1}, "num_hidden_layers must be from 1 to 1000, is -1"),
        # A layer takes room before anybody looks for its weights.
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be from 1 to 1000, is 1000000000"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    model: Path, fields: dict[str, Any], words: str
) -> None:
    edit(model / "config.json", **fields)
    message = refusal(model)
    assert words in message
    assert message.startswith(f"{model / 'config.json'}: ")


def test_two_names_of_one_field_may_not_contradict() -> None:
    """Of GPT-2's n_embd and hidden_size the later one won, in silence."""
    both = {"n_embd": 48, "hidden_size": 48, "n_head": 4, "num_attention_heads": None}
    fields = {"architectures": ["GPT2LMHeadModel"], "vocab_size": 96} | both
    config = config_of_fields(fields, "tiny")
    assert (config.hidden_size, config.num_heads) == (48, 4)
    with pytest.raises(ModelError, match="n_embd is 48 and hidden_size is 64, which are two names"):
        config_of_fields(fields | {"hidden_size": 64}, "tiny")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b"[]"])
def test_config_that_is_no_json_object_is_refused(model: Path, content: bytes) -> None:
    (model / "config.json").write_bytes(content)
    assert refusal(model).startswith(f"{model / 'config.json'}: ")


@pytest.mark.parametrize(("factor", "is_tied"), [(1, True), (2, False)])
def test_tied_head_is_compared_without_torch(tmp_path: Path, factor: int, is_tied: bool) -> None:
    """Supervisor and workers read configurations, too."""
    model = write_tiny_llama(tmp_path / "half", dtype="bfloat16")
    tensors = safetensors.torch.load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = factor * tensors["model.embed_tokens.weight"]
    safetensors.torch.save_file(tensors, model / "model.safetensors")
    code = (
        "import sys; from pathlib import Path; from backend.config.load import load_config;"
        "config = load_config(Path(sys.argv[1])); assert 'torch' not in sys.modules;"
        "print(config.tie_word_embeddings)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{is_tied}\n"


def test_directory_without_config_is_refused(tmp_path: Path) -> None:
    assert "has no config.json" in refusal(tmp_path)


def test_directory_with_only_a_gguf_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "some.gguf").touch()
    assert f"give {tmp_path / 'some.gguf'}" in refusal(tmp_path)


def test_pickled_weights_are_not_loaded(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "has pytorch_model.bin but no safetensors" in refusal(model)


def test_directory_without_weights_is_refused(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "has neither model.safetensors nor" in refusal(model)


@pytest.mark.parametrize("cut", [0, 4, 100, -4])
def test_truncated_weights_are_found_before_use(model: Path, cut: int) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    assert "truncated or not a safetensors file" in refusal(model)


def test_weights_with_a_bad_header_are_refused(model: Path) -> None:
    (model / "model.safetensors").write_bytes((8).to_bytes(8, "little") + b"not json" * 2)
    assert "truncated or not a safetensors file" in refusal(model)


def test_weights_without_tensors_are_refused(model: Path) -> None:
    safetensors.torch.save_file({}, model / "model.safetensors")
    assert "hold no tensors" in refusal(model)


def test_dtype_that_cannot_be_computed_with_is_refused(model: Path) -> None:
    eights = {"w": torch.zeros(4, 4, dtype=torch.float8_e4m3fn)}
    safetensors.torch.save_file(eights, model / "model.safetensors")
    assert "weights stored as F8_E4M3 are not supported; F32, F16, BF16 are" in refusal(model)


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "../model.safetensors"}, "names '../model.safetensors'; only"),
        ({"a": "/etc/passwd"}, "names '/etc/passwd'; only"),
        ({"a": "pytorch_model.bin"}, "names 'pytorch_model.bin'; only"),
        ({"a": "model-00002-of-00002.safetensors"}, "which is missing"),
        ({}, "names no file"),
        ({"a": 1}, "Expected `str`, got `int`"),
    ],
)
def test_index_names_only_safetensors_beside_it(
    model: Path, weight_map: dict[str, Any], words: str
) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert words in refusal(model)


def seeing(**outer: Any) -> dict[str, Any]:
    """config.json of a model that sees, whose decoder's fields stand in text_config."""
    text = {
        "model_type": "qwen3_vl_text",
        "hidden_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "head_dim": 16,
        "vocab_size": 320,
        "max_position_embeddings": 512,
        "eos_token_id": 5,
        "rope_scaling": {"rope_type": "default", "mrope_section": [4, 2, 2]},
    }
    whole = {"architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl"}
    return whole | {"text_config": text, "vision_config": {"depth": 1}} | outer


def test_field_beside_the_decoder_that_it_lacks_is_refused() -> None:
    """transformers takes the class's default, llama.cpp's converter what stands beside it."""
    with pytest.raises(ModelError, match="rope_theta stands beside text_config, and none in it"):
        config_of_fields(seeing(rope_theta=9.0), "m")


def test_field_beside_the_decoder_that_differs_is_told_of() -> None:
    config = config_of_fields(seeing(num_hidden_layers=7, hidden_size=48, dtype="float16"), "m")
    assert len(config.spec.layers) == 2
    assert config.notes[1:] == (
        "text_config counts, not what config.json has beside it: num_hidden_layers",
    )


def test_head_and_ends_of_the_whole_count() -> None:
    config = config_of_fields(seeing(eos_token_id=[7, 8], pad_token_id=3), "m")
    assert config.eos_token_ids == (7, 8)
    assert config_of_fields(seeing(), "m").eos_token_ids == (5,)
    assert config_of_fields(seeing(tie_word_embeddings=True), "m").tie_word_embeddings
    assert len(config.notes) == 1


@pytest.mark.parametrize(
    ("architecture", "use"),
    [
        ("BertForTokenClassification", "labels the tokens of a text"),
        ("XLMRobertaForQuestionAnswering", "marks an answer in a text"),
        ("RobertaForMultipleChoice", "chooses between endings"),
        ("BertForNextSentencePrediction", "tells whether one text follows another"),
        ("DebertaV2ForSequenceClassification", "scores or labels texts, and is of a family that"),
        ("ElectraForMaskedLM", "fills gaps in a text, and is of a family that"),
    ],
)
def test_head_for_another_use_is_refused_with_what_serves(
    architecture: str, use: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    impls: tuple[ModelImpl, ...] = ("auto", "transformers")
    for impl in impls:
        with pytest.raises(ModelError) as caught:
            read_config(tmp_path, impl)
        assert f"config.json: architecture {architecture} {use}" in str(caught.value)
        assert "vectors of texts come from encoders" in str(caught.value)
        assert "Bert, Roberta, XLMRoberta" in str(caught.value)
