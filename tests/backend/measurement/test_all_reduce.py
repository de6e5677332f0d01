import pytest

from backend.measurement import all_reduce
from backend.measurement.all_reduce import Link, measure_link


def test_link_is_a_latency_and_bytes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of sums that take 10 us and a second for each 1e9 bytes."""
    monkeypatch.setattr(
        all_reduce, "_group_times", lambda size: [1e-5 + n / 1e9 for n in all_reduce.SIZES]
    )
    link = measure_link(2)
    assert link.latency_s == pytest.approx(1e-5)
    assert link.bandwidth == pytest.approx(1e9)


@pytest.mark.slow
def test_two_spawned_ranks_are_measured() -> None:
    latency_s, bandwidth = measure_link(2)
    assert isinstance(Link(latency_s, bandwidth), Link)
    assert 0 <= latency_s < 0.1
    assert 1e6 < bandwidth < 1e12
