"""A request is good that came whole and in time; what was late or failed adds nothing."""

import pytest

from gateway.bench.client import Answer
from gateway.bench.limits import Limits
from gateway.bench.load import figures


@pytest.mark.parametrize(
    ("limits", "is_met"),
    [
        (Limits(), True),
        (Limits(ttft_ms=500), True),
        (Limits(ttft_ms=499), False),
        (Limits(itl_ms=100), True),
        (Limits(itl_ms=99), False),
        (Limits(ttft_ms=500, itl_ms=99), False),
    ],
)
def test_limits_count_from_when_the_request_was_due(limits: Limits, is_met: bool) -> None:
    """Five tokens in 0.4 s after the first: 100 ms between them, though only two events came."""
    times_s = [10.5, 10.9 - 1e-9]
    answer = Answer(10.2, times_s, num_output_tokens=5, due_s=10.0 + 1e-9)
    assert limits.are_met_by(answer) is is_met


def test_answer_without_text_or_with_an_error_meets_no_limit() -> None:
    assert not Limits().are_met_by(Answer(1.0))
    assert not Limits().are_met_by(Answer(1.0, [1.1], error="cut off"))


def test_single_token_has_no_gap_to_be_late() -> None:
    assert Limits(itl_ms=1).are_met_by(Answer(1.0, [1.5], num_output_tokens=1))


def test_goodput_is_of_requests_in_time_over_all_of_them() -> None:
    answers = [
        Answer(1.0, [1.1, 1.2], num_output_tokens=10, ended_s=1.2),
        Answer(1.0, [1.9, 2.0], num_output_tokens=10, ended_s=2.0),
        Answer(1.0, error="HTTP 429", ended_s=1.0),
        Answer(1.0, [1.1], num_output_tokens=6, ended_s=1.1),
    ]
    result = figures(answers, 4, wall_s=2.0, cpu_s=0.0, limits=Limits(ttft_ms=200))
    assert (result.good_share, result.good_requests_per_s, result.good_tokens_per_s) == (0.5, 1, 8)
    assert (result.requests_per_s, result.output_tokens_per_s) == (1.5, 13)
