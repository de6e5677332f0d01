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
    """CPU seconds of a worker and of the client that loads it, on the same cores.

    token_s: of a streamed token. request_s: of a request beside its tokens, the worker's alone.
    step_s: of a step that brings tokens, beside those: both processes wake up.
    """

    token_s: float
    request_s: float
    step_s: float = 0.0


async def measure_gateway(model: Path) -> GatewayCosts:
    """Load a worker with streams and with requests of one token. model: whose tokenizer serves.

    Raises BenchError if a process does not start or a request fails.
    """
    with GatewayHarness(
        model, plain_token_ids(model), STEPS_PER_S, b"data: x\n\n", b"x"
    ) as harness:
        workload = Workload(MODEL, prompt_tokens=STREAMS, max_tokens=1, prompt_ids=True)

        async def load(
            max_tokens: int, num_requests: int, streams: int = STREAMS
        ) -> tuple[float, LevelResult]:
            workload.max_tokens = max_tokens
            before = cpu_seconds(harness.gateway.child.pid)
            result = await run_level(
                harness.gateway.target, workload, streams, num_requests=num_requests
            )
            if result.num_errors:
                raise BenchError(result.first_error)
            return cpu_seconds(harness.gateway.child.pid) - before, result

        await load(1, STREAMS)
        short_s, short = await load(1, 8 * STREAMS)
        long_s, long = await load(MAX_TOKENS, STREAMS)
        alone_s, alone = await load(MAX_TOKENS, 1, streams=1)
    request_s = short_s / short.num_requests
    # 32 tokens a step, and one.
    many_s = _token_s(long_s, long, request_s)
    one_s = _token_s(alone_s, alone, request_s)
    step_s = max(0.0, one_s - many_s) * STREAMS / (STREAMS - 1)
    return GatewayCosts(max(0.0, many_s - step_s / STREAMS), request_s, step_s)


def _token_s(worker_s: float, level: LevelResult, request_s: float) -> float:
    """Return what a token takes of the worker and the client, its request's part taken off."""
    client_s = level.client_cpu_percent / 100 * level.wall_s
    return max(0.0, worker_s + client_s - level.num_requests * request_s) / level.output_tokens
