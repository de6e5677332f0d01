"""What a model's files say of sampling: generation_config.json, or the sampling keys of a GGUF.

Owns which field means what, in transformers' names; not whether a value is in range, and not the
ends of sequence, which `huggingface` and `eos` read. No torch. Called by the gateway, whose
requests take these values for what they leave out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from backend.config.errors import ModelError
from backend.config.gguf_header import read_metadata

# What vLLM 0.32 takes of the file, and no_repeat_ngram_size, which it has no parameter for.
FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram_size",
    "max_new_tokens",
)
_OF_A_DRAW = frozenset({"top_p", "top_k", "min_p"})
# Fields that would change an answer and that nothing here does -> their values that change nothing.
_UNUSED: dict[str, tuple[object, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0,),
    "typical_p": (1,),
    "top_h": (),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "min_new_tokens": (0,),
    "min_length": (0,),
    "stop_strings": ([],),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "sequence_bias": ([], {}),
    "guidance_scale": (1,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "diversity_penalty": (0,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "constraints": ([],),
    "token_healing": (False,),
    "dola_layers": (),
    "watermarking_config": (),
    "num_return_sequences": (1,),
}
# llama.cpp's keys -> the names above. Its converter writes repetition_penalty as penalty_repeat.
_GGUF = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
_GGUF_UNUSED: dict[str, tuple[object, ...]] = {
    "general.sampling.sequence": ("",),
    "general.sampling.xtc_probability": (0,),
    "general.sampling.penalty_last_n": (-1,),  # the whole context, as repetition_penalty has it
    "general.sampling.mirostat": (0,),
}


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """What one model says of sampling.

    source: the file, for people. values: by a name of FIELDS, as the file has them, never None.
    unused: the fields that would change an answer and change none here.
    """

    source: str
    values: dict[str, object]
    unused: tuple[str, ...] = ()


def read_generation_config(path: Path) -> GenerationConfig:
    """Read what the files of a model say; nothing is no error.

    path: a GGUF file or a Hugging Face directory.
    Raises ModelError for a file that cannot be read.
    """
    return _of_directory(path) if path.is_dir() else _of_gguf(path)


def _of_directory(directory: Path) -> GenerationConfig:
    path = directory / "generation_config.json"
    fields = _json_object(path) if path.exists() else {}
    given = {name: value for name, value in fields.items() if value is not None}
    values = {name: given[name] for name in FIELDS if name in given}
    samples = given.get("do_sample")
    if samples is not None and not isinstance(samples, bool):
        raise ModelError(f"{path}: do_sample is {samples!r}, not true or false")
    if samples is False:
        # generate() of transformers is greedy then, whatever else the file says of the draw. A file
        # without the field is not: vLLM, for which such files are written as well, draws.
        values = {name: value for name, value in values.items() if name not in _OF_A_DRAW}
        values["temperature"] = 0.0
    return GenerationConfig(str(path), values, _unused(given, _UNUSED))


def _json_object(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    except msgspec.ValidationError as error:
        raise ModelError(f"{path}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from None


def _as_written(value: object) -> object:
    """Return a float32 of a file as its author wrote it: 0.01, not 0.009999999776."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _of_gguf(path: Path) -> GenerationConfig:
    pairs = read_metadata(path, frozenset([*_GGUF, *_GGUF_UNUSED]))
    values = {name: _as_written(pairs[key]) for key, name in _GGUF.items() if key in pairs}
    for name in ("temperature", "top_k"):
        # llama.cpp: a temperature below 0 is greedy, a top_k below 0 keeps all, both as 0 does.
        value = values.get(name)
        if isinstance(value, int | float) and value < 0:
            values[name] = 0
    return GenerationConfig(str(path), values, _unused(pairs, _GGUF_UNUSED))


def _unused(given: dict[str, Any], known: dict[str, tuple[object, ...]]) -> tuple[str, ...]:
    return tuple(name for name in known if name in given and given[name] not in known[name])
