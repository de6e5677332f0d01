"""What is read of sampling, in the two places where a model's files say it."""

import json
from pathlib import Path
from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.generation_config import read_generation_config
from tests.gateway.gguf_files import write_gguf


def directory(path: Path, **fields: Any) -> Path:
    (path / "generation_config.json").write_text(json.dumps(fields))
    return path


def gguf(path: Path, **keys: Any) -> Path:
    return write_gguf(path / "m.gguf", {f"general.sampling.{k}": v for k, v in keys.items()})


def test_directory_without_the_file_says_nothing(tmp_path: Path) -> None:
    assert read_generation_config(tmp_path).values == {}


def test_fields_of_sampling_are_read_and_no_others(tmp_path: Path) -> None:
    given = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05}
    others = {"eos_token_id": [1, 2], "transformers_version": "5.0.0", "min_p": None}
    config = read_generation_config(directory(tmp_path, do_sample=True, **given, **others))
    assert (config.values, config.unused) == (given, ())
    assert config.source.endswith("generation_config.json")


def test_do_sample_false_is_greedy_as_in_transformers(tmp_path: Path) -> None:
    fields = {"temperature": 0.9, "top_p": 0.6, "top_k": 5, "min_p": 0.1, "max_new_tokens": 2048}
    path = directory(tmp_path, do_sample=False, repetition_penalty=1.1, **fields)
    wanted = {"temperature": 0.0, "repetition_penalty": 1.1, "max_new_tokens": 2048}
    assert read_generation_config(path).values == wanted
    # Not so where the field is missing, or null: vLLM, too, draws then.
    assert read_generation_config(directory(tmp_path, temperature=0.9)).values == {
        "temperature": 0.9
    }
    assert read_generation_config(directory(tmp_path, do_sample=None)).values == {}


def test_field_that_does_nothing_here_is_named_unless_neutral(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"num_beams": 4, "typical_p": 1.0, "suppress_tokens": [7]}
    config = read_generation_config(directory(tmp_path, guidance_scale=1, **fields))
    assert config.unused == ("num_beams", "suppress_tokens")


# Of beams, of how it is computed, of helpers that draft, of what is returned; ends and the first
# token are read elsewhere.
_CHANGES_NO_TEXT = """
    early_stopping length_penalty low_memory do_sample max_length max_time
    cache_config cache_implementation compile_config continuous_batching_config disable_compile
    max_cache_len prefill_chunk_size use_cache remove_invalid_values renormalize_logits
    assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight
    assistant_lookbehind is_assistant max_matching_ngram_size num_assistant_tokens
    num_assistant_tokens_schedule prompt_lookup_num_tokens speculation_type target_lookbehind
    use_mtp output_attentions output_hidden_states output_logits output_scores
    return_dict_in_generate
    bos_token_id eos_token_id pad_token_id decoder_start_token_id transformers_version
    _from_model_config
""".split()


def test_every_field_of_transformers_is_used_named_or_harmless(tmp_path: Path) -> None:
    """Watermarks, token healing and forced words were left out without a word."""
    from transformers import GenerationConfig

    fields = {name: [8.5] for name in GenerationConfig().to_dict() if name != "do_sample"}
    config = read_generation_config(directory(tmp_path, **fields))
    known = {*config.values, *config.unused, *_CHANGES_NO_TEXT}
    assert sorted(fields.keys() - known) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "Expected `object`, got `array`"),
        ('{"top_p": ', "not valid JSON"),
        ('{"do_sample": "no"}', "do_sample is 'no', not true or false"),
    ],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=rf"generation_config.json: {words}"):
        read_generation_config(tmp_path)


def test_gguf_keys_have_llama_cpps_names(tmp_path: Path) -> None:
    path = gguf(tmp_path, temp=0.01, top_k=64, top_p=0.75, min_p=0.2, penalty_repeat=1.3)
    config = read_generation_config(path)
    assert config.values == {
        "temperature": 0.01,
        "top_k": 64,
        "top_p": 0.75,
        "min_p": 0.2,
        "repetition_penalty": 1.3,
    }
    assert config.unused == ()


def test_gguf_below_zero_means_what_llama_cpp_makes_of_it(tmp_path: Path) -> None:
    path = gguf(tmp_path, temp=-1.0, top_k=-1)
    assert read_generation_config(path).values == {"temperature": 0, "top_k": 0}


def test_gguf_keys_that_do_nothing_here_are_named(tmp_path: Path) -> None:
    config = read_generation_config(gguf(tmp_path, mirostat=2, xtc_probability=0.0, temp=1.0))
    assert config.unused == ("general.sampling.mirostat",)
