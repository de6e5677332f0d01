"""A config.json may say whatever its configuration class of transformers has, in its default."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from backend.config.architectures import HF_ARCHITECTURES, load_family
from backend.config.errors import ModelError
from tests.backend.config.families.family_config import config_of

# Of encoders one configuration is that of many classes; their own tests hold them.
DECODERS = [
    name
    for name in sorted(HF_ARCHITECTURES)
    if name.endswith(("CausalLM", "LMHeadModel", "T5ForConditionalGeneration"))
    # What T5ForConditionalGeneration and FalconForCausalLM were called once.
    and name not in ("T5WithLMHeadModel", "RWForCausalLM")
]
WIDTHS = ("hidden_size", "n_embd", "d_model")


@pytest.mark.parametrize("architecture", DECODERS)
def test_defaults_of_every_field_are_known(architecture: str) -> None:
    family = load_family(HF_ARCHITECTURES[architecture])
    values = {"architectures": [architecture]} | default_fields(architecture)
    if architecture == "Glm4MoeForCausalLM":
        values["head_dim"] = 128  # as all files have it; by default it is 4096 / 96
    if architecture == "Dots1ForCausalLM":
        values |= {"n_routed_experts": 128, "num_experts_per_tok": 6}  # null by default
    config = config_of(family, values)
    assert config.hidden_size == next(values[n] for n in WIDTHS if n in values)


@pytest.mark.parametrize("architecture", DECODERS)
def test_share_that_a_class_ignores_is_refused(architecture: str) -> None:
    """Heads turned in part where transformers turns them whole, without a word."""
    values = {"architectures": [architecture]} | default_fields(architecture)
    values |= {"position_embedding_type": "rope"} if "position_embedding_type" in values else {}
    if "rope_parameters" not in values or reads_share(architecture):
        pytest.skip("its heads do not turn, or in part")
    parameters = values["rope_parameters"]
    nested = [part for part in parameters.values() if isinstance(part, dict)]
    for part in nested or [parameters]:
        part["partial_rotary_factor"] = 0.75
    with pytest.raises(ModelError, match=r"partial_rotary_factor (is )?0\.75"):
        config_of(load_family(HF_ARCHITECTURES[architecture]), values)


def reads_share(architecture: str) -> bool:
    """Whether transformers' code of a class reads which share of a head turns."""
    import transformers

    module = getattr(transformers, architecture).__module__
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin
    return "partial_rotary_factor" in Path(spec.origin).read_text()


def default_fields(architecture: str) -> dict[str, Any]:
    """Return what transformers writes of the text model, without loading the model's code."""
    import transformers
    from transformers.models.auto import configuration_auto, modeling_auto

    table = (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        | modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    )
    kinds = [kind for kind, name in table.items() if name == architecture]
    # A decoder that comes inside of others alone is in no table.
    names = [configuration_auto.CONFIG_MAPPING_NAMES[kind] for kind in kinds]
    names.append(architecture.removesuffix("ForCausalLM") + "Config")
    config_class = getattr(transformers, names[0])
    fields: dict[str, Any] = config_class().get_text_config().to_dict()
    return fields
