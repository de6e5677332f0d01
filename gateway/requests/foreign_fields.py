"""Fields of other servers that would change what a request means, and that nothing here does.

Ignoring one would answer another question than was asked, so these are refused, however lenient the
server; a value that asks for nothing is ignored like decoration. Called by unknown_fields.py.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from gateway.errors import ApiError
from gateway.requests.fields_of_answers import OF_ANSWERS, SAME
from gateway.schema.ollama import OllamaOptions
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
    "repeat_last_n": (-1, 64),
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


# What vLLM does to a text, a vector or a score unless it is told not to: false asks for something.
_DONE_ANYWAY: dict[str, tuple[Any, ...]] = {
    "add_special_tokens": (True,),
    "normalize": (True,),
    "use_activation": (True,),
    "activation": (True,),
    "softmax": (True,),
    "embed_dtype": ("float32",),
    "endianness": ("native", "little"),
}

# Inside of fields that are objects: constraints of vLLM's, and where llama.cpp and others have a
# schema or a pattern.
_NESTED: dict[str, tuple[type[msgspec.Struct], tuple[str, ...]]] = {
    "structured_outputs": (
        StructuredOutputs,
        ("whitespace_pattern", "structural_tag", "disable_additional_properties"),
    ),
    "response_format": (ResponseFormat, ("schema", "regex", "pattern", "grammar", "value")),
    "options": (OllamaOptions, ("mirostat", "typical_p", "tfs_z", "repeat_last_n")),
}


def check_nested_fields(fields: Mapping[str, msgspec.Raw], known: Collection[str]) -> None:
    """Do the same for what is unknown inside a known field."""
    for outer, (struct, names) in _NESTED.items():
        is_there = outer in fields and outer in known
        given = msgspec.json.decode(fields[outer]) if is_there else None
        if not isinstance(given, dict):
            continue
        for name in names:
            nothing = (*_NOTHING, *_MEANINGFUL.get(name, ()))
            if name not in struct.__struct_fields__ and given.get(name) not in nothing:
                raise _unsupported(f"{outer}.{name}", outer, ".")


def check_foreign_field(
    name: str, fields: Mapping[str, msgspec.Raw], known: Collection[str], *, is_answered: bool
) -> None:
    """Raise ApiError 400 for a field that is unknown here if it changes what is asked for.

    fields: all of the request's; the same said under a known name as well loses nothing.
    is_answered: the request is for text, not for what is known of one.
    """
    neutral = _MEANINGFUL.get(name)
    if neutral is not None:
        neutral = (*_NOTHING, *neutral)
    elif is_answered and name in OF_ANSWERS:
        neutral = OF_ANSWERS[name]
    else:
        neutral = _DONE_ANYWAY.get(name)
    if neutral is None:
        return
    given = msgspec.json.decode(fields[name])
    if given is None or any(_is_same(given, other) for other in neutral):
        return
    others = _others(name, known)
    if any(other in fields and msgspec.json.decode(fields[other]) == given for other in others):
        return
    raise _unsupported(name, name, f"; did you mean {others[0]}?" if others else ".")


def _others(name: str, known: Collection[str]) -> list[str]:
    """Return the known names of what a name says; of what stands in `options` one that says so."""
    names = [SYNONYMS[name]] if name in SYNONYMS else []
    for group in SAME:
        if name in group:
            names += group
    found = [other for other in names if other in known]
    inner = next((each for each in (name, *names) if each in OllamaOptions.__struct_fields__), "")
    return [f"options.{inner}"] if inner and "options" in known and not found else found


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are the same: to Python false is 0, and 1 is true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _unsupported(name: str, param: str, end: str) -> ApiError:
    message = f"'{name}' would change what this request means, and is not supported{end}"
    return ApiError(400, message, param=param, code="unsupported_parameter")
