"""The notation of the model that is served, and its special tokens that a parser must see.

A detokenizer leaves special tokens out of a text; those that are marks are shown to the parser and
never told. Built once by each worker.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.notations.compiled import CompiledNotation, compiled
from gateway.notations.library import (
    AUTO,
    DEFAULT_CALLS,
    builtin,
    call_notation,
    reasoning_notation,
)
from gateway.notations.notation import Notation
from gateway.notations.response_templates import UnknownForm, shipped_notation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedNotation:
    """How the model writes calls and thoughts. special_ids: the marks that are special tokens."""

    form: CompiledNotation = field(default_factory=lambda: compiled(builtin(DEFAULT_CALLS), None))
    special_ids: Mapping[str, int] = field(default_factory=dict)

    @property
    def hidden(self) -> frozenset[str]:
        """Marks that are never text."""
        return frozenset(self.special_ids)

    @property
    def shown_ids(self) -> frozenset[int]:
        """The special tokens that a parser must see."""
        return frozenset(self.special_ids.values())

    @property
    def splits_text(self) -> bool:
        """Whether an answer may have parts even where no tool can be called."""
        form = self.form
        return form.reasoning is not None or form.messages is not None or bool(form.text_opening)

    def ends_in_thought(self, prompt: str, *, is_continued: bool) -> bool:
        """Whether an answer to a prompt goes on with a thought.

        prompt: its end, special tokens included. is_continued: it ends with what the model said, or
        thought, already.
        """
        reasoning = self.form.reasoning
        if reasoning is None:
            return False
        if is_continued:
            return prompt.rfind(reasoning.open) > prompt.rfind(reasoning.close)
        return prompt.rstrip().endswith(reasoning.open.strip())

    def ends_after_thought(self, prompt: str) -> bool:
        """Whether a prompt has a thought already, as a rule an empty one."""
        reasoning = self.form.reasoning
        return reasoning is not None and prompt.rstrip().endswith(reasoning.close.strip())


def notation_of(
    path: Path, templates: Mapping[str, str], tools: str = AUTO, reasoning: str = AUTO
) -> CompiledNotation:
    """Return how a model writes. Raises ModelError.

    path: of its files. templates: its chat templates, by name. tools, reasoning: `auto`, a name or
    a file; `none` for thoughts that stay in the text.
    """
    shipped = _shipped(path)
    sources = [templates[name] for name in sorted(templates, key=lambda n: n != "tool_use")]
    return compiled(
        call_notation(tools, sources, shipped), reasoning_notation(reasoning, sources, shipped)
    )


def serve_notation(form: CompiledNotation, special_tokens: Mapping[str, int]) -> ServedNotation:
    """Return a notation with those of a tokenizer's special tokens that are marks in it."""
    marks: Sequence[str] = form.marks
    found = {
        text: token_id
        for text, token_id in special_tokens.items()
        if text and any(text in mark for mark in marks)
    }
    return ServedNotation(form, found)


def _shipped(path: Path) -> Notation | None:
    try:
        return shipped_notation(path)
    except UnknownForm as error:
        logger.warning(
            "the response template in %s is not used, since there is no form for %s",
            path / "tokenizer_config.json",
            error,
        )
        return None
