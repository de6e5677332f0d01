"""What a setting costs in exactness, as two servers score texts."""

import pytest

from gateway.tuning.loss import LossError, loss_percent, surprise_of


def test_loss_is_of_perplexity_and_never_a_gain() -> None:
    assert loss_percent(2.0, 2.01) == pytest.approx(1.005, rel=1e-3)
    assert loss_percent(2.0, 1.9) == 0.0


def test_own_server_is_not_asked_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is in the message of who was asked."""
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", "http://no.such.proxy.invalid:3128")
    with pytest.raises(LossError, match="Connection refused"):
        surprise_of("http://127.0.0.1:1", "m", ["a text"])
