"""Which of a model's templates a conversation gets; transformers judges."""

from typing import Any, cast

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from gateway.sandbox.chat_templates import ChatTemplates, UnknownTemplate
from tests.gateway.fake_template import FakeTemplate, fake_templates

TOOLS = [{"type": "function", "function": {"name": "f"}}]


def templates_of(names: tuple[str, ...]) -> tuple[ChatTemplates, PreTrainedTokenizerFast]:
    """Return templates whose source is their name, and transformers' tokenizer with the same."""
    own = fake_templates(None, **{name: FakeTemplate(name=name) for name in names})
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    oracle = PreTrainedTokenizerFast(
        tokenizer_object=backend, chat_template={name: name for name in names}
    )
    return own, oracle


@pytest.mark.parametrize("names", [("default",), ("default", "tool_use"), ("default", "rag")])
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_choice_is_that_of_transformers(names: tuple[str, ...], tools: Any) -> None:
    own, oracle = templates_of(names)
    chosen = cast(FakeTemplate, own.choose(None, has_tools=tools is not None))
    assert chosen.name == oracle.get_chat_template(tools=tools)
    for name in names:
        named = cast(FakeTemplate, own.choose(name, has_tools=tools is not None))
        assert named.name == oracle.get_chat_template(name, tools=tools)


def test_without_a_default_one_must_be_named() -> None:
    own, oracle = templates_of(("rag", "tool_use"))
    assert cast(FakeTemplate, own.choose(None, has_tools=True)).name == "tool_use"
    with pytest.raises(ValueError, match="no default"):
        oracle.get_chat_template()
    with pytest.raises(UnknownTemplate, match=r"none .* is the default; it has: rag, tool_use$"):
        own.choose(None, has_tools=False)


def test_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownTemplate, match=r"it has: default$"):
        templates_of(("default",))[0].choose("{{ 1 }}", has_tools=False)
