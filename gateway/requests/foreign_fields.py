"""Fields of other servers that would change what a request means, and that nothing here does.

Ignoring one would answer another question than was asked, so these are refused, however lenient the
server; a value that asks for nothing is ignored like decoration. Called by unknown_fields.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from gateway.errors import ApiError
from gateway.schema.structured import ResponseFormat, StructuredOutputs

# What asks for nothing whatever the field.
_NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})

# Limits and constraints under names that have an equal here.
SYNONYMS = {
    "grammar": "structured_outputs",
    "ebnf": "structured_outputs",
    "json_schema": "structured_outputs",
    "regex": "structured_outputs",
    "structural_tag": "structured_outputs",
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_length": "max_tokens",
    "max_output_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "min_new_tokens": "min_tokens",
    "stop_sequences": "stop",
    "repeat_penalty": "repetition_penalty",
    "t_max_predict_ms": "timeout",
    "max_time": "timeout",
    "input_type": "prompt_name",
}

# Name -> what else asks for nothing. In the order of the servers that have them: vLLM, SGLang,
# llama.cpp, TGI and transformers, then those of embeddings and ranking.
_MEANINGFUL: dict[str, tuple[Any, ...]] = {
    "use_beam_search": (),
    "num_beams": (1,),
    "length_penalty": (1,),
    "prompt_embeds": (),
    "logits_processors": (),
    "repetition_detection": (),
    "vllm_xargs": (),
    "guided_whitespace_pattern": (),
    "stop_regex": (),
    "custom_logit_processor": (),
    "lora_path": (),
    "image_data": (),
    "images": (),
    "lora": (),
    "typical_p": (1,),
    "tfs_z": (1,),
    "top_a": (),
    "top_n_sigma": (-1,),
    "mirostat": (),
    "dry_multiplier": (),
    "xtc_probability": (),
    "dynatemp_range": (),
    "smoothing_factor": (),
    "adapter_id": (),
    "adapter": (),
    "watermark": (),
    "echo": (),
    "suffix": (),
    "best_of": (1,),
    "tools": (),
    "functions": (),
    "task": (),
    "late_chunking": (),
    "normalized": (True,),
    "rank_fields": (),
    **dict.fromkeys(SYNONYMS, ()),
    # Off is 1; none of these counts in tokens from 0.
    "repeat_penalty": (1,),
    "n_predict": (-1,),
    "num_predict": (-1,),
    "max_length": (-1,),
}


# Inside of fields that are objects: constraints of vLLM's, and where llama.cpp and others have a
# schema or a pattern.
_NESTED: dict[str, tuple[type[msgspec.Struct], tuple[str, ...]]] = {
    "structured_outputs": (
        StructuredOutputs,
        ("whitespace_pattern", "structural_tag", "disable_additional_properties"),
    ),
    "response_format": (ResponseFormat, ("schema", "regex", "pattern", "grammar", "value")),
}


def check_nested_fields(fields: Mapping[str, msgspec.Raw]) -> None:
    """Do the same for what is unknown inside a known field."""
    for outer, (struct, names) in _NESTED.items():
        given = msgspec.json.decode(fields[outer]) if outer in fields else None
        if not isinstance(given, dict):
            continue
        for name in names:
            if name not in struct.__struct_fields__ and given.get(name) not in _NOTHING:
                raise _unsupported(f"{outer}.{name}", outer, ".")


def check_foreign_field(
    name: str, fields: Mapping[str, msgspec.Raw], known: Collection[str]
) -> None:
    """Raise ApiError 400 for a field that is unknown here if it changes what is asked for.

    fields: all of the request's; the same said under a known name as well loses nothing.
    """
    neutral = _MEANINGFUL.get(name)
    if neutral is None:
        return
    given = msgspec.json.decode(fields[name])
    if any(given == other for other in (*_NOTHING, *neutral)):
        return
    synonym = SYNONYMS.get(name)
    if synonym is not None and synonym in fields and msgspec.json.decode(fields[synonym]) == given:
        return
    meant = f"; did you mean {synonym}?" if synonym in known else "."
    raise _unsupported(name, name, meant)


def _unsupported(name: str, param: str, end: str) -> ApiError:
    message = f"'{name}' would change what this request means, and is not supported{end}"
    return ApiError(400, message, param=param, code="unsupported_parameter")
