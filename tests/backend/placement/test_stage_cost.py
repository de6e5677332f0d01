"""Steps of pipeline stages, against sums by hand."""

from dataclasses import dataclass
from typing import Any, cast

import pytest

from backend.placement.cost_model import Rows, StepTime
from backend.placement.hop import Hop
from backend.placement.stage_cost import PipelineCost


@dataclass(frozen=True)
class _Stage:
    """Takes so many seconds a step, whatever is in it, and so many more a drawn token."""

    seconds: float
    drawn_s: float = 0.0

    def of(self, rows: Rows) -> StepTime:
        return StepTime(reading=self.seconds, serial=self.drawn_s * rows.sampled)


HALF_A_SECOND = Hop(0, 0.5)


def pipeline(*stages: _Stage, hop: Hop = HALF_A_SECOND, back: Hop = HALF_A_SECOND) -> PipelineCost:
    return PipelineCost(cast(Any, stages), [hop] * (len(stages) - 1), back, 1024)


def test_one_stream_waits_for_all_stages_and_hops() -> None:
    """Two hops, and the token's way back; two stages over two nodes were measured at 2.3 ways."""
    time = pipeline(_Stage(1), _Stage(2), _Stage(3)).of(Rows(1, 10, sampled=1))
    assert time.total == pytest.approx(1 + 2 + 3 + 3 * 0.5)
    assert time.reading == 3 and time.hops == 4.5


def test_full_pipeline_goes_at_its_slowest_stage() -> None:
    time = pipeline(_Stage(1), _Stage(2), _Stage(3)).of(Rows(30, 10))
    assert time.total == time.reading == 3 * 3


def test_hops_that_exceed_the_stages_are_waited_for() -> None:
    time = pipeline(_Stage(1), _Stage(1), hop=Hop(0, 5)).of(Rows(8, 10))
    assert time.total == 1 + 1 + 5 + 0.5


def test_prompt_fills_the_pipeline_once() -> None:
    """512 tokens in three chunks: three times the slowest, and the others once before it."""
    time = pipeline(_Stage(2), _Stage(2), _Stage(2), hop=Hop(0, 0)).of(Rows(0, 0, 512))
    assert time.total == 3 * 2 + 2 * 2


def test_only_the_last_stage_draws_tokens() -> None:
    time = pipeline(_Stage(1, 9), _Stage(1, 1), hop=Hop(0, 0)).of(Rows(2, 10, sampled=2))
    assert time.total == 2 * (1 + 1)


def test_hop_carries_two_vectors_of_16_bits_a_row() -> None:
    # 8 rows x 1,024 x 2 x 2 bytes at 10 Gb/s, and 0.1 ms; the way back has ids alone.
    hop = Hop(1.25e9, 1e-4)
    time = pipeline(_Stage(0), _Stage(0), hop=hop, back=hop).of(Rows(1, 10))
    one_row_s = 3.2768e-6 + 1e-4
    assert time.total == pytest.approx(one_row_s + 1e-4)
    assert hop.seconds(8 * 1024 * 4) == pytest.approx(26.2144e-6 + 1e-4)
