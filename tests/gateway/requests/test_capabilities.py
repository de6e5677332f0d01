"""What a model can do is told from what its requests may ask."""

from dataclasses import replace
from typing import cast

import pytest

from backend.config.pooling import Pooling
from gateway.requests.capabilities import capabilities
from gateway.requests.infill import MARKS
from gateway.sandbox.grammar_validator import GrammarValidator
from gateway.text.tokenizer import Tokenizer
from tests.gateway.fake_template import FakeTemplate, fake_templates
from tests.gateway.fakes import ByteTokenizer, FakePool, make_service

PLAIN = make_service(FakePool())


def test_plain_model_completes() -> None:
    assert capabilities(PLAIN) == ["completion"]
    assert capabilities(replace(PLAIN, has_encoder=True)) == ["completion"]


@pytest.mark.parametrize(
    ("template", "more"),
    [
        (FakeTemplate(supports_tools=False), []),
        (FakeTemplate(), ["tools"]),
        (FakeTemplate(knows_thoughts=True), ["tools", "thinking"]),
    ],
)
def test_chat_can_what_its_template_can(template: FakeTemplate, more: list[str]) -> None:
    templates = fake_templates(default=FakeTemplate(supports_tools=False), tool_use=template)
    found = capabilities(replace(PLAIN, chat_templates=templates))
    assert found == ["completion", "chat", *more]


def test_marks_and_grammars_are_told() -> None:
    tokenizer = ByteTokenizer(marks=dict(zip(MARKS[0], (1, 2, 3), strict=True)))
    validator = cast(GrammarValidator, object())
    service = replace(PLAIN, tokenizer=cast(Tokenizer, tokenizer), grammar_validator=validator)
    assert capabilities(service) == ["completion", "insert", "structured_outputs"]


def test_pooled_models_do_one_thing() -> None:
    embed, rank = Pooling("embed", ("mean",)), Pooling("rerank", ("cls",))
    assert capabilities(replace(PLAIN, pooling=embed)) == ["embedding"]
    assert capabilities(replace(PLAIN, pooling=rank)) == ["rerank"]
