"""What one server does under one load with so many streams, and the file that this is kept in.

A comparison takes an hour, so every measurement is written down as soon as it is done: runs can be
cut in pieces, or off, and put into one table. Each carries the conditions it was made under.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvloop

from gateway.bench.client import fetch_json
from gateway.bench.load import run_rounds
from gateway.bench.streamed_request import Target
from gateway.bench.workload import Workload, calibrate
from tests.bench.peers.loads import LOADS
from tests.bench.peers.running import run_server
from tests.bench.peers.servers import PeerServer


class Conditions(msgspec.Struct, frozen=True):
    """What must be equal for two servers to be compared.

    level: the instruction level that every server was held to, "" for the processor's best.
    """

    machine: str
    model: str
    level: str = ""


class Measurement(msgspec.Struct, frozen=True):
    """One server, load and number of streams. num_short: streams that ended too early.

    pss_mb: of all processes after the load, without the KV cache; kv_mb: what that had touched.
    """

    conditions: Conditions
    server: str
    version: str
    command: str
    load: str
    streams: int
    measured_at: str
    tokens_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    num_short: int
    ready_s: float
    idle_cpu_percent: float
    pss_mb: float
    kv_mb: float


def measure(
    server: PeerServer, load: str, streams: Sequence[int], conditions: Conditions
) -> Iterator[Measurement]:
    """Start the server, load it with so many streams in turn, and stop it. Raises RuntimeError."""
    with run_server(server) as running:
        target = Target.parse(running.url)
        workload = LOADS[load].workload(server.dialect)
        uvloop.run(_prepare(target, workload))
        for count in streams:
            [result] = uvloop.run(run_rounds(target, workload, [count], 1))[count]
            if result.num_errors:
                raise RuntimeError(f"{result.num_errors} streams failed: {result.first_error}")
            pss, kv = running.pss_bytes()
            yield Measurement(
                conditions=conditions,
                server=server.name,
                version=server.version,
                command=_shown(server),
                load=load,
                streams=count,
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
                tokens_per_s=result.output_tokens_per_s,
                ttft_p50_ms=result.ttft_p50_ms,
                ttft_p99_ms=result.ttft_p99_ms,
                itl_p50_ms=result.itl_p50_ms,
                num_short=result.num_short,
                ready_s=running.ready_s,
                idle_cpu_percent=running.idle_cpu_percent(),
                pss_mb=pss / 1e6,
                kv_mb=kv / 1e6,
            )


async def _prepare(target: Target, workload: Workload) -> None:
    """Learn the model's name and how many words make the prompt."""
    models = await fetch_json(target, "/v1/models")
    workload.model = models["data"][0]["id"]
    await calibrate(target, workload)


def _shown(server: PeerServer) -> str:
    """The command as one would type it: programs and files without their directories."""
    variables = [
        f"{name}={':'.join(Path(part).name for part in value.split(':'))}"
        for name, value in server.variables.items()
    ]
    words = [Path(word).name if word.startswith("/") else word for word in server.command]
    return " ".join([*variables, *words]).replace(" --port {port}", "")


def append(path: Path, measurement: Measurement) -> None:
    """Write one down."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(measurement) + b"\n")


def read_all(path: Path) -> list[Measurement]:
    """Return what has been written down, oldest first."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Measurement) for line in path.read_bytes().splitlines()]
