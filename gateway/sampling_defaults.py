"""What the sampling fields of a request are where it leaves them out.

From the model's files (`--generation-config`), under what the operator says
(`--override-generation-config`); OpenAI's defaults for the rest. Owns their ranges and how a bad
file is told. Knows no request. Read by the supervisor, before anything is spawned, and by every
worker.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from backend.config.errors import ModelError
from backend.config.generation_config import GenerationConfig, read_generation_config
from backend.wire.sampling import (
    MinP,
    NgramSize,
    Penalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)


class SamplingDefaults(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Values by transformers' names; None where nobody says anything but OpenAI.

    max_new_tokens: of a chat's answer; a completion without max_tokens has OpenAI's 16.
    """

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    no_repeat_ngram_size: NgramSize | None = None
    max_new_tokens: Annotated[int, Meta(ge=1)] | None = None

    def __str__(self) -> str:
        """As in "temperature 0.6, top_p 0.95"; nothing if no value is set."""
        given: dict[str, float] = msgspec.to_builtins(self)
        return ", ".join(f"{name} {value:g}" for name, value in given.items())


@dataclass(frozen=True, slots=True)
class ModelSampling:
    """The defaults that hold for a model. unused: what its files say in vain; source: which."""

    defaults: SamplingDefaults
    source: str = ""
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The values and whose they are; nothing if OpenAI's hold."""
        whose = f" ({Path(self.source).name})" if self.source else ""
        return f"{self.defaults}{whose}" if str(self.defaults) else ""


def load_sampling_defaults(path: Path, mode: str, override: SamplingDefaults) -> ModelSampling:
    """Return the defaults of a model's requests.

    mode: "auto" reads the model's files, "none" (vLLM's name for it is "vllm") does not.
    Raises ModelError for a value that no request could have either.
    """
    config = read_generation_config(path) if mode == "auto" else GenerationConfig("", {})
    said: dict[str, object] = msgspec.to_builtins(override)
    try:
        defaults = msgspec.convert(config.values | said, SamplingDefaults)
    except msgspec.ValidationError as error:
        raise ModelError(_refusal(config, str(error))) from None
    has_file = bool(config.values or config.unused)
    return ModelSampling(defaults, config.source if has_file else "", config.unused)


def _refusal(config: GenerationConfig, error: str) -> str:
    """error: msgspec's, as in "Expected `float` <= 2.0 - at `$.temperature`"."""
    expected, _, place = error.partition(" - at `$.")
    name = place.rstrip("`")
    return (
        f"{config.source}: {name} is {config.values.get(name)!r}; {expected.lower()}.\n"
        "--generation-config none serves without what the file says of sampling,\n"
        f"""--override-generation-config '{{"{name}": ...}}' with another value"""
    )
