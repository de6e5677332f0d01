"""What of transformers' classes is refused before anything is spawned."""

import subprocess
import sys

import pytest

from backend.config.errors import ModelError
from backend.config.foreign_classes import check_class

STATEFUL = [
    ("MambaForCausalLM", "mamba"),
    ("Mamba2ForCausalLM", "mamba2"),
    ("JambaForCausalLM", "jamba"),
    ("RwkvForCausalLM", "rwkv"),
    ("Lfm2MoeForCausalLM", "lfm2_moe"),
    ("MiniMaxForCausalLM", "minimax"),
    ("Qwen4ExpForCausalLM", "qwen4_exp_text"),
]


@pytest.mark.parametrize(("architecture", "model_type"), STATEFUL)
def test_classes_that_keep_a_state_are_refused_by_name(architecture: str, model_type: str) -> None:
    with pytest.raises(ModelError, match=f"{architecture} keeps a state of its own"):
        check_class(architecture, model_type)


def test_text_inside_that_keeps_a_state_is_refused() -> None:
    name = "Lfm3VlForConditionalGeneration"
    with pytest.raises(ModelError, match=f"{name} keeps a state of its own"):
        check_class(name, "lfm3_vl", "lfm3")
    check_class("FuyuForCausalLM", "fuyu", "persimmon")


def test_classes_that_let_nobody_attend_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="BloomForCausalLM cannot be served with a paged cache"):
        check_class("BloomForCausalLM", "bloom")


@pytest.mark.parametrize(
    ("architecture", "model_type"),
    [
        ("CohereForCausalLM", "cohere"),
        ("StableLmForCausalLM", "stablelm"),
        ("OfNobody", "cohere"),
        ("OfNobody", "no_such_type"),
        ("OfNobody", None),
        ("OfNobody", "../../etc"),
    ],
)
def test_what_the_source_does_not_say_is_left_to_the_rank(
    architecture: str, model_type: str | None
) -> None:
    check_class(architecture, model_type)


def test_transformers_is_not_imported_for_it() -> None:
    code = (
        "import sys\nfrom backend.config.foreign_classes import check_class\n"
        "check_class('CohereForCausalLM', 'cohere')\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
