"""What the order and the place of work are worth: a simulation in the time of a real machine.

The schedulers, the fair queue and the router are the real ones; the pool around them is retold. A
step costs what one was measured to cost on two cores with the default model: 14 ms, 0.5 ms a prompt
token, 2.3 ms a row. Nothing else takes time.
`python -m tests.bench.dispatch` prints both comparisons of tests/bench/README.md.
"""

import heapq
import itertools
import random
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from backend.scheduler.block_pool import BlockPool
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.wire.messages import StepOutput, StepTimings, Submit, Totals
from backend.wire.sampling import SamplingParams
from gateway.pool.fair_queue import FairQueue
from gateway.pool.replica_epoch import ReplicaEpoch
from gateway.pool.routing import Router, StepCost
from gateway.tenant import ANONYMOUS, Tenant

STEP_S, PROMPT_TOKEN_S, ROW_S = 14e-3, 0.5e-3, 2.3e-3
BUDGET, ROWS, BLOCK_SIZE = 512, 128, 32


@dataclass(slots=True)
class Arrival:
    """One request. time_s: of its arrival; first_token_s: when it had its first token."""

    time_s: float
    num_prompt_tokens: int
    max_tokens: int
    tenant: Tenant = ANONYMOUS
    first_token_s: float = 0.0

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.time_s


@dataclass(slots=True, eq=False)
class Group:
    """A group whose steps take simulated time."""

    number: int
    is_busy: bool = False
    step_cost: StepCost = field(default_factory=StepCost)
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    spent_s: float = 0.0
    block_size: int = BLOCK_SIZE
    arrivals: dict[int, Arrival] = field(default_factory=dict)
    credit: int = 0
    num_sent: int = 0
    num_open: Counter[str] = field(default_factory=Counter)  # by tenant

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(
            BlockPool(1 << 14, BLOCK_SIZE),
            max_num_seqs=ROWS,
            max_num_batched_tokens=BUDGET,
            max_model_len=8192,
            vocab_size=1 << 17,
        )
        self.most_credit = self.credit = self.scheduler.credit

    scheduler: Scheduler = field(init=False)
    most_credit: int = field(init=False)

    @property
    def replica_epoch(self) -> ReplicaEpoch:
        return ReplicaEpoch(self.number, 1)

    @property
    def num_pending_tokens(self) -> int:
        return self.most_credit - self.credit

    @property
    def num_rows(self) -> int:
        return self.scheduler.num_running + self.num_sent

    def add(self, key: int, arrival: Arrival) -> None:
        prompt = [key % 1000 + 1] * arrival.num_prompt_tokens
        params = SamplingParams(max_tokens=arrival.max_tokens, ignore_eos=True)
        seq = Sequence((0, key), prompt, len(prompt), params, cache_salt=str(key))
        seq.tenant = arrival.tenant.id
        self.scheduler.add(seq)
        self.arrivals[key] = arrival
        self.credit -= arrival.num_prompt_tokens
        self.num_sent += 1
        self.num_open[seq.tenant] += 1

    def step(self, now_s: float) -> float | None:
        """Run a step; return when it ends, None if there is nothing to run."""
        plan = self.scheduler.schedule()
        if plan is None:
            return None
        num_rows = len(plan.sample_rows)
        num_prompt_tokens = plan.num_tokens - plan.num_decodes
        cost_s = STEP_S + num_prompt_tokens * PROMPT_TOKEN_S + num_rows * ROW_S
        outputs = self.scheduler.commit(plan, [7] * num_rows)
        self.num_prompt_tokens += num_prompt_tokens
        self.num_output_tokens += num_rows
        self.spent_s += cost_s
        for _, output in outputs:
            arrival = self.arrivals[output.seq_id]
            arrival.first_token_s = arrival.first_token_s or now_s + cost_s
            if output.finish_reason is not None:
                self.num_open[arrival.tenant.id] -= 1
        return now_s + cost_s

    def report(self) -> None:
        """Send the frame of the step that has just ended."""
        totals = Totals(0, self.num_prompt_tokens, self.num_output_tokens, forward_s=self.spent_s)
        self.credit, self.num_sent = self.scheduler.credit, 0
        self.step_cost.take(StepOutput(0, [], StepTimings(), self.credit, 0, 0, 0, totals))


def simulate(arrivals: Iterable[Arrival], num_groups: int, *, is_pulled: bool) -> float:
    """Serve all; return when the last has ended. is_pulled: as the pool does it; otherwise each
    request goes to the next group in turn, at once."""
    groups = [Group(number) for number in range(num_groups)]
    turns = itertools.cycle(groups)
    queue: FairQueue[tuple[int, Arrival]] = FairQueue()
    router, order, now_s = Router(), itertools.count(), 0.0
    events: list[tuple[float, int, Arrival | Group]] = [
        (arrival.time_s, next(order), arrival) for arrival in arrivals
    ]
    heapq.heapify(events)

    def runs_nothing(tenant: str) -> bool:
        return not any(group.num_open[tenant] for group in groups)

    def dispatch() -> None:
        while True:
            able = [group for group in groups if group.credit > 0]
            head = queue.head() if able else queue.head(runs_nothing)
            if head is None:
                return
            key, arrival = head
            submit = Submit(key, [key] * arrival.num_prompt_tokens, [], SamplingParams())
            router.choose(able or groups, submit).add(key, arrival)
            queue.take(key)

    while events:
        now_s, key, event = heapq.heappop(events)
        if isinstance(event, Group):
            event.is_busy = False
            event.report()
        elif is_pulled:
            tokens = event.num_prompt_tokens
            queue.push(key, (key, event), event.tenant, priority=0, num_tokens=tokens)
        else:
            next(turns).add(key, event)
        dispatch()
        for group in groups:
            if not group.is_busy and (end_s := group.step(now_s)) is not None:
                group.is_busy = True
                heapq.heappush(events, (end_s, next(order), group))
    return now_s


def mixed(seed: int, count: int = 400, rate: float = 2.0) -> list[Arrival]:
    """Short and long prompts and answers, arriving at random."""
    rng = random.Random(seed)
    time_s, arrivals = 0.0, []
    for _ in range(count):
        time_s += rng.expovariate(rate)
        arrivals.append(Arrival(time_s, rng.choice([32, 64, 128, 3000]), rng.choice([16, 64, 400])))
    return arrivals


def flood(num_prompt_tokens: int, *, is_flooded: bool, is_keyed: bool) -> list[Arrival]:
    """Ten requests of one tenant, five seconds apart, beside 600 requests at once of another."""
    light = [
        Arrival(5.0 * n, num_prompt_tokens, 4, Tenant(id="few" if is_keyed else "many"))
        for n in range(1, 11)
    ]
    heavy = [Arrival(0.0, 100, 128, Tenant(id="many")) for _ in range(600 * is_flooded)]
    return light + heavy


def median_ttft_s(num_prompt_tokens: int, *, is_flooded: bool, is_keyed: bool = True) -> float:
    """TTFT of the tenant with few requests."""
    arrivals = flood(num_prompt_tokens, is_flooded=is_flooded, is_keyed=is_keyed)
    simulate(arrivals, 1, is_pulled=True)
    return statistics.median(arrival.ttft_s for arrival in arrivals[:10])


def main() -> None:
    """Print the comparisons."""
    for is_pulled in (False, True):
        ttfts: list[float] = []
        ends = []
        for seed in range(5):
            arrivals = mixed(seed)
            ends.append(simulate(arrivals, 2, is_pulled=is_pulled))
            ttfts += [arrival.ttft_s for arrival in arrivals]
        p50, p99 = statistics.median(ttfts), statistics.quantiles(ttfts, n=100)[98]
        name = "pull" if is_pulled else "round-robin"
        print(f"{name:12} TTFT p50 {p50:.2f} p99 {p99:.2f} mean {statistics.fmean(ttfts):.2f} s")
    for tokens in (32, 128, 512, 1024):
        alone = median_ttft_s(tokens, is_flooded=False)
        fair = median_ttft_s(tokens, is_flooded=True)
        unfair = median_ttft_s(tokens, is_flooded=True, is_keyed=False)
        print(f"{tokens} tokens: alone {alone:.2f} s, flooded {fair:.2f} s, one key {unfair:.2f} s")


if __name__ == "__main__":
    main()
