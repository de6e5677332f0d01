"""What tests of helpers share."""

import pytest

from gateway.sandbox import chat_template, grammar_validator, helper, template_check


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blame nobody for a machine that has much else to do, or stands still."""
    monkeypatch.setattr(chat_template, "RENDER_TIMEOUT_S", 600.0)
    monkeypatch.setattr(grammar_validator, "CLOCK_LIMIT_S", 600.0)
    monkeypatch.setattr(grammar_validator, "WAIT_LIMIT_S", 600.0)
    for module in (helper, template_check):
        monkeypatch.setattr(module, "START_LIMIT_S", 600.0)
