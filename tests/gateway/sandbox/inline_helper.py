"""A helper without its process, for tests of what it is asked and what it answers.

It has the bytes that a process would get, and none of its limits: to start one takes longer than a
hundred renderings.
"""

from collections.abc import Callable
from importlib import import_module

import pytest

from gateway.sandbox import chat_template, template_process
from gateway.sandbox.helper import HelperRefused
from gateway.sandbox.helper_process import Unusable


class InlineHelper:
    """What gateway/sandbox/helper.py's Helper is, as long as nothing takes for ever or dies."""

    def __init__(self, module: str, greeting: Callable[[], bytes]) -> None:
        self._begin: Callable[[bytes], Callable[[bytes], bytes]] = import_module(module).begin
        self._greeting = greeting
        self._answer: Callable[[bytes], bytes] | None = None

    async def ask(self, request: Callable[[], bytes], limit_s: float) -> bytes:
        """Return the answer. Raises HelperRefused."""
        payload = request()
        if self._answer is None:
            try:
                self._answer = self._begin(self._greeting())
            except Unusable as reason:
                raise HelperRefused(str(reason)) from None
        return self._answer(payload)

    def close(self) -> None:
        """There is nothing to end."""


def use_inline_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have chat templates rendered in this process, which must not be limited in its memory."""
    monkeypatch.setattr(chat_template, "Helper", InlineHelper)
    monkeypatch.setattr(template_process, "limit_memory", lambda num_bytes: None)
