"""The templates that transformers has for families are notations that read the same."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers.cli.serving.utils import _RESPONSE_TEMPLATE_FALLBACKS

from gateway.notations.compiled import compiled
from gateway.notations.response_templates import (
    UnknownForm,
    of_response_template,
    shipped_notation,
)
from tests.gateway.notations.parsing import called, parse
from tests.gateway.notations.recorded_outputs import RECORDED
from tests.gateway.notations.recording import TOOLS

NAMES = {"qwen3": "qwen3", "qwen3_5": "qwen3.5", "gemma4": "gemma-4"}


def template_of(family: str) -> Any:
    return next(t for names, t in _RESPONSE_TEMPLATE_FALLBACKS.items() if family in names)


@pytest.mark.parametrize("family", NAMES)
def test_templates_of_transformers_read_recorded_outputs(family: str) -> None:
    recorded = next(r for r in RECORDED if r.name == NAMES[family])
    notation = of_response_template(template_of(family))
    answer = parse(
        [recorded.output], compiled(notation, notation), TOOLS, is_thinking=recorded.is_thinking
    )
    assert (answer.text, answer.reasoning) == (recorded.told, recorded.thought)
    assert called(answer) == recorded.called


def test_directory_may_ship_a_template(tmp_path: Path) -> None:
    assert shipped_notation(tmp_path) is None
    config = {"response_template": template_of("qwen3_5"), "model_max_length": 8}
    (tmp_path / "tokenizer_config.json").write_bytes(msgspec.json.encode(config))
    notation = shipped_notation(tmp_path)
    assert notation is not None and notation.calls[0].parameter.startswith("<parameter={key}>")


def test_what_has_no_form_is_named() -> None:
    with pytest.raises(UnknownForm, match="kv-lines"):
        of_response_template({"fields": {"tool_calls": {"open": "<a>", "content": "kv-lines"}}})
    pattern = {"open_pattern": "(a|b)", "close": "c", "content": "json"}
    with pytest.raises(UnknownForm, match="pattern"):
        of_response_template({"fields": {"tool_calls": pattern}})
    with pytest.raises(UnknownForm, match="version"):
        of_response_template({"version": 2, "fields": {}})
