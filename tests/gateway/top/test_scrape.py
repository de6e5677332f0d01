import pytest

from gateway.telemetry import families
from gateway.telemetry.families import Family
from gateway.top.scrape import History, Sample, Span, Unreachable, scrape


def counter(at_s: float, family: Family, *values: tuple[str, float]) -> Sample:
    return Sample(at_s, {f"{family.name}_total": [({"group": g}, v) for g, v in values]})


def histogram(at_s: float, **counts: float) -> Sample:
    """counts: cumulative, by bound in tenths of a second; `inf` last."""
    rows = [
        ({"le": "+Inf" if bound == "inf" else str(int(bound[1:]) / 10)}, value)
        for bound, value in counts.items()
    ]
    return Sample(at_s, {f"{families.TTFT.name}_bucket": rows})


def test_rates_add_up_groups_and_can_be_of_one() -> None:
    span = Span(
        counter(10, families.STEPS, ("0", 5), ("1", 7)),
        counter(12, families.STEPS, ("0", 9), ("1", 13)),
    )
    assert span.rate(families.STEPS) == 5
    assert span.rate(families.STEPS, group="1") == 3


def test_counter_that_began_anew_grew_from_0() -> None:
    span = Span(counter(1, families.STEPS, ("0", 100)), counter(2, families.STEPS, ("0", 4)))
    assert span.growth(families.STEPS) == 4


def test_quantiles_are_of_the_time_between_and_interpolated() -> None:
    before, now = histogram(1, b1=5, b2=5, inf=5), histogram(2, b1=5, b2=15, inf=15)
    assert Span(before, now).quantile(families.TTFT, 0.5) == pytest.approx(0.15)
    assert Span(now, now).quantile(families.TTFT, 0.5) is None
    assert Span(Sample(), histogram(1, b1=0, inf=3)).quantile(families.TTFT, 0.5) == 0.1


def test_history_looks_back_as_far_as_it_can() -> None:
    history = History()
    for at_s in range(100):
        history.add(counter(at_s, families.STEPS, ("0", at_s**2)))
    assert history.recent.before.at_s == 94
    assert history.lately.before.at_s == 39
    assert len(history.steps()) == 99


def test_server_that_is_not_there_is_told() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 cannot be reached"):
        scrape("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["localhost", "http://[::1", "http://a b"])
def test_what_is_no_url_is_told(url: str) -> None:
    """A word without a scheme ended in a traceback."""
    with pytest.raises(Unreachable, match="cannot be reached"):
        scrape(url)
