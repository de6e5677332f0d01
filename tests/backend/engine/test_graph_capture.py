"""Which models' decodes are captured."""

import pytest

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.graph_capture import captured_sizes, clears_blocks
from backend.ops.cpu import CpuOps
from backend.placement.decode_sizes import DecodeSizes
from backend.settings import EngineSettings
from tests.backend.engine.replay_ops import ReplayOps
from tests.backend.factories import tiny_config


class CapturableOps(ReplayOps):
    is_capturable = hides_unwritten = True


def test_ops_that_keep_to_the_rules_are_captured() -> None:
    settings = EngineSettings(max_num_seqs=7)
    sizes = captured_sizes(settings, tiny_config(), CapturableOps(), 300, TensorParallel())
    assert sizes == DecodeSizes.of(7, 300)
    assert not clears_blocks(CapturableOps())


@pytest.mark.parametrize(
    ("eager", "ops", "why"),
    [(True, CapturableOps(), "--enforce-eager"), (False, CpuOps(), "read on the host")],
)
def test_obstacle_is_told(
    eager: bool, ops: CpuOps, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = EngineSettings(enforce_eager=eager)
    assert captured_sizes(settings, tiny_config(), ops, 300, TensorParallel()) is None
    assert why in caplog.text
    assert clears_blocks(ops) == (not ops.hides_unwritten)


def test_ranks_that_sum_through_the_host_capture_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Shared(TensorParallel):
        waits_for_host = True
        description = "they share a device"

    caplog.set_level("INFO")
    sizes = captured_sizes(EngineSettings(), tiny_config(), CapturableOps(), 300, Shared(0, 2))
    assert sizes is None and "share a device" in caplog.text
