"""What a gateway worker takes of the cores beside the ranks, for the model of cost.

A mock engine emits tokens at a set rate, so nothing waits for a model. Called by `unisono
calibrate`; `unisono bench gateway` measures the same worker more closely.
"""

from dataclasses import dataclass
from pathlib import Path

from gateway.bench.gateway import plain_token_ids
from gateway.bench.harness import MODEL, GatewayHarness
from gateway.bench.load import LevelResult, run_level
from gateway.bench.streamed_request import BenchError
from gateway.bench.workload import Workload
from gateway.procfs import cpu_seconds

STREAMS = 32
# CPU time is counted in hundredths of a second: some thousand tokens.
MAX_TOKENS = 192
# Fast, but each token is still an event of its own.
STEPS_PER_S = 80.0


@dataclass(frozen=True, slots=True)
class GatewayCosts:
    """CPU seconds of a worker: of a streamed token, and of a request beside its tokens."""

    token_s: float
    request_s: float


async def measure_gateway(model: Path) -> GatewayCosts:
    """Load a worker with streams and with requests of one token. model: whose tokenizer serves.

    Raises BenchError if a process does not start or a request fails.
    """
    with GatewayHarness(
        model, plain_token_ids(model), STEPS_PER_S, b"data: x\n\n", b"x"
    ) as harness:
        workload = Workload(MODEL, prompt_tokens=STREAMS, max_tokens=1, prompt_ids=True)

        async def load(max_tokens: int, num_requests: int) -> tuple[float, LevelResult]:
            workload.max_tokens = max_tokens
            before = cpu_seconds(harness.gateway.child.pid)
            result = await run_level(
                harness.gateway.target, workload, STREAMS, num_requests=num_requests
            )
            if result.num_errors:
                raise BenchError(result.first_error)
            return cpu_seconds(harness.gateway.child.pid) - before, result

        await load(1, STREAMS)
        short_s, short = await load(1, 8 * STREAMS)
        long_s, long = await load(MAX_TOKENS, STREAMS)
    request_s = short_s / short.num_requests
    token_s = max(0.0, long_s - long.num_requests * request_s) / long.output_tokens
    return GatewayCosts(token_s, request_s)
