"""Loads by name: the values of flags that were not given."""

import json
from collections.abc import Mapping

# Table 3 of TitanML's "Harmonizing Multi-GPUs": what its Figure 8 was measured with.
TAKEOFF_SAMPLING: Mapping[str, object] = {
    "min_tokens": 256,
    "top_p": 0.9,
    "top_k": 20,
    "no_repeat_ngram_size": 5,
    "repetition_penalty": 2.0,
}
_TAKEOFF: Mapping[str, object] = {
    "prompt_tokens": 3,
    "max_tokens": 256,
    "temperature": 1.0,
    "extra": json.dumps(TAKEOFF_SAMPLING),
}
# A person's question with some history, and an answer that is read as it comes: the first word
# within two seconds, and text faster than it is read aloud (some five words a second).
_CHAT: Mapping[str, object] = {
    "prompt_tokens": 512,
    "max_tokens": 128,
    "temperature": 0.7,
    "extra": json.dumps({"top_p": 0.9}),
    "ttft_limit_ms": 2000.0,
    "itl_limit_ms": 150.0,
}
PRESETS: Mapping[str, Mapping[str, object]] = {"none": {}, "takeoff": _TAKEOFF, "chat": _CHAT}


def with_preset(given: Mapping[str, object], known: frozenset[str]) -> dict[str, object]:
    """Return flags with the values of the preset that they name, where they say nothing else.

    known: the flags that there are; a preset may say more. A preset that there is not is left for
    the settings to refuse.
    """
    preset = PRESETS.get(str(given.get("preset", "none")), {})
    return {name: value for name, value in preset.items() if name in known} | dict(given)
