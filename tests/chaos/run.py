"""A chaos run: one server, a crowd of clients, attacks on its processes, and the oracle.

Everything is drawn from one seed: the requests, who asks for what in which manner, what is attacked
when. A run with the same seed does the same; what the machine makes of it is another matter.
"""

import asyncio
import contextlib
import itertools
import random
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.backend.factories import write_tiny_llama
from tests.chaos.attacks import Attacker, Log
from tests.chaos.catalog import Answer, make_catalog
from tests.chaos.census import Census, groups_of, is_ready, is_whole, take_census
from tests.chaos.client import End, Manner, Outcome, ask
from tests.chaos.node_attacks import NodeAttacker
from tests.chaos.oracle import ValidationResult, judge
from tests.e2e.ray_nodes import RayNode, ray_cluster, ray_server
from tests.e2e.server import Server, processes_of, wait_until
from tests.e2e.steady import Pulse

NUM_WORKERS = 2
NUM_GROUPS = 2
# The title of the process that compiles a worker's grammars.
HELPER = "unisono: helper"
CATALOG_SIZE = 32
LONGEST = 150
WHOLE_SECONDS = 180.0
# Forgotten at once, deaths neither add up nor lengthen the back-off.
COMMON = (
    f"--exact --dtype float32 --max-num-seqs 16 --kv-cache-bytes {1 << 22} --log-level warning "
    "--restart-limit 1000 --restart-window-s 1"
)
CLEAN_SECONDS = 30.0
# Everything at once, while nothing is attacked: how long it takes is the machine's business.
UNHURRIED = Manner(timeout_s=600.0, patience_s=700.0)
# What a patient client tries again: nothing was promised yet.
RETRIED = {"not_ready", "queue_full"}


@dataclass(frozen=True)
class Plan:
    """What a run consists of.

    num_requests: how many to complete; 0 for as many as fit in `seconds`. num_attacks: how many are
    enough, likewise. attacks: their names; by weight if empty. pause_s: between two of them, at
    most. only_when_whole: each waits until every group is back. impatient: some clients leave, read
    slowly or have no time.
    """

    seed: int
    seconds: float = 60.0
    num_requests: int = 0
    num_attacks: int = 0
    num_clients: int = 8
    attacks: tuple[str, ...] = ()
    pause_s: float = 4.0
    only_when_whole: bool = False
    impatient: bool = True
    supervisor_dies: bool = False
    echo: bool = False


@dataclass
class Report:
    """What came of it. leftovers: what was held after and not before."""

    verdict: ValidationResult
    log: Log
    seconds: float
    leftovers: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        return self.verdict.complaints + self.leftovers

    def __str__(self) -> str:
        lines = [f"{len(self.log.entries)} attacks in {self.seconds:.0f} s"]
        lines += [f"{count:6d} {end}" for end, count in self.verdict.ends.most_common()]
        lines.append(f"{self.verdict.num_tokens:6d} tokens")
        return "\n".join(lines + self.failures)


@contextlib.contextmanager
def chaos_server() -> Iterator[Server]:
    """Two workers and two groups of two ranks in exact mode, which no crash discourages."""
    with tempfile.TemporaryDirectory() as directory:
        model = write_tiny_llama(Path(directory) / "tiny", max_model_len=2048)
        settings = f"--workers {NUM_WORKERS} --tp 2 --dp {NUM_GROUPS} {COMMON}".split()
        settings += ["--hang-seconds", "3"]
        with Server(model, *settings) as server:
            yield server


@contextlib.contextmanager
def chaos_nodes(num_nodes: int, over: str = "") -> Iterator[tuple[Server, list[RayNode]]]:
    """Two workers on the first of some Ray nodes, and as many groups.

    Each has one rank; or two on two nodes, which share each layer, or the layers, as over says: tp
    or pp.
    """
    num_ranks = 2 if over else 1
    with (
        tempfile.TemporaryDirectory() as directory,
        ray_cluster(num_nodes, num_cpus=num_ranks) as nodes,
    ):
        model = write_tiny_llama(Path(directory) / "tiny", max_model_len=2048)
        settings = f"--workers {NUM_WORKERS} --dp {num_nodes} {COMMON} --threads 1".split()
        if over:
            settings += [f"--{over}", "2", "--nodes", "2"]
        # A silence is taken for a loss after so long; on two cores Ray's start may take three.
        settings += ["--hang-seconds", "6"]
        with ray_server(nodes, model, *settings) as server:
            yield server, nodes


def run(plan: Plan, server: Server, nodes: Sequence[RayNode] = ()) -> Report:
    """Do it. The server is stopped afterwards.

    nodes: of the Ray cluster that its groups are on, if they are on one.
    """
    return asyncio.run(_Run(plan, server, nodes).run())


class _Run:
    def __init__(self, plan: Plan, server: Server, nodes: Sequence[RayNode]) -> None:
        self._plan = plan
        self._nodes = nodes
        self._num_groups = len(nodes) or NUM_GROUPS
        self._server = server
        self._port = server.port
        self._log = Log(echo=plan.echo)
        self._catalog = make_catalog(random.Random(plan.seed), CATALOG_SIZE, LONGEST)
        self._outcomes: list[Outcome] = []
        self._is_over = asyncio.Event()
        self._num_complete = 0

    async def run(self) -> Report:
        references = await self._references()
        before = await self._whole_census()
        started = time.monotonic()
        clients = [
            asyncio.create_task(self._client(random.Random(f"{self._plan.seed}/{n}")))
            for n in range(self._plan.num_clients)
        ]
        attacker = asyncio.create_task(self._attack())
        with Pulse() as pulse:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._plan.seconds):
                    await self._is_over.wait()
            self._is_over.set()
            await attacker
            await asyncio.gather(*clients)
        report = Report(ValidationResult(), self._log, time.monotonic() - started)
        report.leftovers = await self._left_behind(before)
        report.verdict = judge(self._outcomes, references, self._log, pulse.lost_s)
        report.leftovers += self._stop()
        return report

    async def _references(self) -> list[Answer]:
        """Ask for everything, undisturbed, until the server is warm: twice at least.

        A worker is warm when the process that compiles its grammars has started.
        """
        for number in itertools.count(1):
            outcomes = await asyncio.gather(
                *(ask(self._port, n, body, UNHURRIED) for n, body in enumerate(self._catalog))
            )
            commands = processes_of(self._server.session).values()
            num_helpers = sum(command.startswith(HELPER) for command in commands)
            if number > 1 and num_helpers == NUM_WORKERS:
                break
        assert all(outcome.end is End.COMPLETE for outcome in outcomes), outcomes
        return [outcome.answer for outcome in outcomes]

    async def _whole_census(self) -> Census:
        """Wait until nothing is running, and count."""
        try:
            await asyncio.to_thread(
                wait_until,
                lambda: is_whole(self._server, self._num_groups),
                WHOLE_SECONDS,
                "recovery",
            )
        except AssertionError as error:
            error.add_note(f"{groups_of(self._server)}\n{self._server.stderr}")
            raise
        return take_census(self._server)

    async def _left_behind(self, before: Census) -> list[str]:
        """What is still held when all is over; closing takes a moment."""
        found: list[str] = []

        def is_clean() -> bool:
            found[:] = take_census(self._server).left_behind(before)
            return not found

        await self._whole_census()
        with contextlib.suppress(AssertionError):
            await asyncio.to_thread(wait_until, is_clean, CLEAN_SECONDS, "nothing is left")
        return found

    # the crowd

    async def _client(self, rng: random.Random) -> None:
        while not self._is_over.is_set():
            number = rng.randrange(CATALOG_SIZE)
            if self._plan.impatient and rng.random() < 0.03:
                burst = [rng.randrange(CATALOG_SIZE) for _ in range(20)]
                await asyncio.gather(*(self._ask(n, self._manner(rng)) for n in burst))
            else:
                await self._ask(number, self._manner(rng))

    def _manner(self, rng: random.Random) -> Manner:
        if not self._plan.impatient:
            return Manner()
        match rng.randrange(10):
            case 0:
                return Manner(leaves_after=rng.randint(1, 60))
            case 1:
                return Manner(pause_s=0.03)
            case 2:
                return Manner(timeout_s=rng.uniform(0.05, 3.0))
            case _:
                return Manner()

    async def _ask(self, number: int, manner: Manner) -> None:
        """Ask until the request is accepted."""
        while True:
            outcome = await ask(self._port, number, self._catalog[number], manner)
            if outcome.end is not End.REFUSED or outcome.error.get("code") not in RETRIED:
                break
            if self._is_over.is_set():
                return
            await asyncio.sleep(0.2)
        self._outcomes.append(outcome)
        self._num_complete += outcome.end is End.COMPLETE
        if 0 < self._plan.num_requests <= self._num_complete:
            self._is_over.set()

    # the attacks

    async def _attack(self) -> None:
        rng = random.Random(f"{self._plan.seed}/attacks")
        attacker = (
            NodeAttacker(self._nodes, self._server, rng, self._log)
            if self._nodes
            else Attacker(self._server, rng, self._log)
        )
        names = self._plan.attacks or tuple(attacker.weights)
        weights = [attacker.weights[name] for name in names]
        num_attacks = 0
        while not self._is_over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), rng.uniform(0.1, self._plan.pause_s))
                return
            if self._plan.only_when_whole and not await asyncio.to_thread(
                is_ready, self._server, self._num_groups
            ):
                continue
            [name] = rng.choices(names, weights)
            await attacker.attack(name)
            num_attacks += 1
            if num_attacks == self._plan.num_attacks:
                self._is_over.set()

    def _stop(self) -> list[str]:
        """End the server; return what was wrong with that."""
        if self._plan.supervisor_dies:
            self._server.send(signal.SIGKILL)
            self._server.wait()
        else:
            self._server.send(signal.SIGTERM)
            if (status := self._server.wait()) != 0:
                return [f"exit status {status} after SIGTERM"]
        self._server.check_nothing_left()
        return []
