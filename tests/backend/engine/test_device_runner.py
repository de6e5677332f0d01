"""Steps that are launched and collected: the same tokens as run one by one, whatever happens."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine import platform
from backend.engine.device_runner import DeviceRunner
from backend.engine.engine import Engine
from backend.engine.forwarded_step import ForwardedStep
from backend.engine.newest_tokens import NewestTokens
from backend.engine.token_draws import TokenDraws
from backend.ops.kv_cache import KVCache
from backend.placement.decode_sizes import DecodeSizes
from backend.placement.sharding import split_model
from backend.ranks.flight import Flight
from backend.sampling.sampler import Sampler
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.step import FAULTY, NO_TOKEN, Join, PlannedSequence, build_plan
from backend.structured_output.matchers import Matchers
from backend.wire.messages import SeqOutput
from backend.wire.sampling import SamplingParams
from tests.backend.engine.host_queue import HostQueue
from tests.backend.engine.replay_ops import ReplayOps
from tests.backend.factories import write_tiny_llama
from tests.backend.models.tiny_engine import engine_of, scheduler_of, sequence

SEQS = 5
SIZES = DecodeSizes((1, 2, 4, SEQS), (12, 40, 512))
# Of the article's kind: every processor that looks back, and filters.
HISTORY: dict[str, Any] = {
    "repetition_penalty": 1.5, "no_repeat_ngram_size": 3, "frequency_penalty": 0.3,
    "top_k": 20, "top_p": 0.9, "min_tokens": 4, "bad_words": ((5,), (6, 7)),
}  # fmt: skip
KINDS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.0, "seed": 1},
    {"temperature": 0.8, "seed": 2, "top_p": 0.9},
    {"temperature": 1.0, "seed": 3, **HISTORY},
    {"temperature": 0.0, "logprobs": 2},
]


@dataclass(frozen=True)
class Request:
    """What one asks for. cancelled_after: tokens, after which it is aborted; 0: it is not."""

    prompt: tuple[int, ...]
    kind: int
    max_tokens: int
    stop: int = 0
    cancelled_after: int = 0

    def sequence(self, number: int) -> Sequence:
        stops = tuple(range(self.stop * 40)) if self.stop else ()
        params = KINDS[self.kind] | {"max_tokens": self.max_tokens, "stop_token_ids": stops}
        return sequence(number, list(self.prompt), **params)


class World:
    """A tiny model, and both runners over it."""

    def __init__(self, engine: Engine, num_blocks: int = 64, budget: int = 16) -> None:
        engine.num_blocks = num_blocks
        self.engine, self.budget = engine, budget
        self.queue = HostQueue()

    def scheduler(self) -> Scheduler:
        return scheduler_of(self.engine, budget=self.budget, max_num_seqs=self.engine.max_num_seqs)

    def device_runner(self, sizes: DecodeSizes | None = SIZES) -> DeviceRunner:
        config = self.engine.config
        [shard] = split_model(config, 1)
        cache = KVCache(
            config, shard, groups=self.engine.groups, num_blocks=self.engine.num_blocks,
            block_size=4, dtype=torch.float32, device=torch.device("cpu"),
        )  # fmt: skip
        sampler = Sampler(SEQS, shard.vocab, TensorParallel(), config.eos_token_ids)
        runner = DeviceRunner(
            self.engine.model, cache, sampler, self.queue, max_num_seqs=SEQS, sizes=sizes
        )
        runner.warm_up(8)
        return runner

    def one_by_one(self, requests: list[Request]) -> dict[int, list[int]]:
        """Run with the plain runner: a step, its tokens, the next step."""
        scheduler, texts = self.scheduler(), Texts(requests)
        texts.begin(scheduler)
        while (plan := scheduler.schedule()) is not None:
            result = self.engine.runner.run(plan)
            texts.take(scheduler, scheduler.commit(plan, result.token_ids, result.logprobs))
        assert scheduler.pool.num_free == scheduler.pool.num_blocks
        return texts.ended()

    def ahead(
        self, requests: list[Request], sizes: DecodeSizes | None = SIZES
    ) -> dict[int, list[int]]:
        scheduler, texts = self.scheduler(), Texts(requests)
        texts.begin(scheduler)
        flight = Flight(scheduler, self.device_runner(sizes), Matchers(320, ()))
        while scheduler.has_work or flight.is_flying:
            plan = scheduler.schedule()
            if plan is None:
                landed = flight.land()
            else:
                newcomers = scheduler.newcomers()
                landed = flight.launch(plan, scheduler.sampled, newcomers, 0.0)
            for step in landed:
                texts.take(scheduler, step.outputs)
            scheduler.check()
        assert scheduler.pool.num_free == scheduler.pool.num_blocks
        return texts.ended()


class Texts:
    """Tokens by request; aborts those that are cancelled."""

    def __init__(self, requests: list[Request]) -> None:
        self._requests = requests
        self._tokens: dict[int, list[int]] = {n: [] for n in range(len(requests))}

    def begin(self, scheduler: Scheduler) -> None:
        for n, request in enumerate(self._requests):
            scheduler.add(request.sequence(n))

    def take(self, scheduler: Scheduler, outputs: Iterable[tuple[int, SeqOutput]]) -> None:
        for _, output in outputs:
            self._tokens[output.seq_id] += output.token_ids
            limit = self._requests[output.seq_id].cancelled_after
            if limit and len(self._tokens[output.seq_id]) >= limit:
                scheduler.abort((0, output.seq_id))

    def ended(self) -> dict[int, list[int]]:
        """A cancelled text is read up to where it was: a step more may have come."""
        limits = {n: request.cancelled_after or None for n, request in enumerate(self._requests)}
        return {n: tokens[: limits[n]] for n, tokens in self._tokens.items()}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "_select_ops", lambda *_: ReplayOps())
        path = write_tiny_llama(tmp_path_factory.mktemp("llama"), num_layers=1)
        yield engine_of(path, exact=True, max_num_seqs=SEQS)


REQUESTS = st.builds(
    Request,
    prompt=st.lists(st.integers(3, 300), min_size=1, max_size=14).map(tuple),
    kind=st.integers(0, len(KINDS) - 1),
    max_tokens=st.integers(1, 12),
    stop=st.integers(0, 2),
    cancelled_after=st.sampled_from([0, 0, 0, 1, 3]),
)


@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=7),
    num_blocks=st.sampled_from([9, 16, 64]),
    has_graphs=st.booleans(),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_texts_are_those_of_one_step_at_a_time(
    engine: Engine, requests: list[Request], num_blocks: int, has_graphs: bool
) -> None:
    """Seeds, filters, penalties, stops, lengths, cancels; nine blocks preempt."""
    world = World(engine, num_blocks)
    expected = world.one_by_one(requests)
    assert world.ahead(requests, SIZES if has_graphs else None) == expected
    assert world.queue.num_started == world.queue.num_waited


def greedy(count: int, max_tokens: int = 10) -> list[Request]:
    return [Request(tuple(range(9 + n, 14 + n)), 0, max_tokens) for n in range(count)]


def test_greedy_decodes_are_replayed_with_two_steps_in_the_air(engine: Engine) -> None:
    world = World(engine)
    assert world.ahead(greedy(3)) == world.one_by_one(greedy(3))
    assert world.queue.num_replays >= 9 and world.queue.most_in_flight == 2
    assert world.queue.num_recorded == len(SIZES.all)


def test_steps_that_the_host_draws_for_are_landed_first(engine: Engine) -> None:
    world = World(engine)
    requests = [Request((9, 10, 11), kind, 10) for kind in (1, 3)]
    assert world.ahead(requests) == world.one_by_one(requests)
    assert world.queue.most_in_flight == 1


def test_padding_leaves_the_cache_alone(engine: Engine) -> None:
    """Three rows run as four; what no sequence owns is as it was."""
    world = World(engine)
    runner = world.device_runner()
    cache = runner._kv_cache
    scheduler = world.scheduler()
    Texts(greedy(3)).begin(scheduler)
    for _ in range(4):
        plan = scheduler.schedule()
        assert plan is not None
        marked = cache.data.clone()
        result = runner.run(plan)
        changed = (cache.data != marked).flatten(2).any(-1).any(0)
        assert set(changed.nonzero().flatten().tolist()) <= set(plan.block_tables.ravel().tolist())
        scheduler.commit(plan, result.token_ids)
    assert world.queue.num_replays >= 2


def test_model_that_cannot_be_captured_is_run_step_by_step(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(HostQueue, "record", refuse)
    world = World(engine)
    assert world.ahead(greedy(2)) == world.one_by_one(greedy(2))
    assert world.queue.num_replays == 0
    [record] = [r for r in caplog.records if "graphs=off" in r.message]
    assert "not permitted" in record.message and "and more" not in record.message


def test_histories_hold_tokens_that_the_lead_has_not_seen(engine: Engine) -> None:
    """Every step is launched before the tokens of the last are collected."""
    world = World(engine)
    requests = [Request((9, 10, 11), 3, 10)]
    scheduler, runner, texts = world.scheduler(), world.device_runner(), Texts(requests)
    texts.begin(scheduler)
    launched = []
    while scheduler.has_work:
        if plan := scheduler.schedule():
            launched.append(runner.launch(plan))
        if plan is None or len(launched) == 2:
            result = runner.collect(launched.pop(0))
            texts.take(scheduler, scheduler.resolve(result.token_ids))
        if plan:
            scheduler.advance(plan)
    assert texts.ended() == world.one_by_one(requests)


def test_rows_without_a_number_or_a_token_are_told_so(engine: Engine) -> None:
    """The largest logit of a row is NaN, -inf or a number; the next step goes on with token 0."""

    class Model:
        def argmax(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            values = torch.tensor([torch.nan, -torch.inf, 1.0])
            return values, torch.tensor([5, 6, 7])

    sampler = Sampler(3, slice(0, 320), TensorParallel(), ())
    for row in range(3):
        sampler.join(Join(row, SamplingParams(temperature=0.0)))
    parts = [PlannedSequence([1], 0, [row], row, 0) for row in range(3)]
    plan = build_plan(1, parts, [], 4)
    rows = torch.arange(3, dtype=torch.int32)
    model: Any = Model()
    step = ForwardedStep(torch.zeros(3, 4), rows, rows, rows, rows, rows)
    tokens = TokenDraws(model, sampler).draw(plan, step).tokens
    assert tokens.tolist() == [FAULTY, NO_TOKEN, 7]
    newest = NewestTokens(3, torch.device("cpu"))
    newest.note(rows, tokens)
    named = torch.tensor([-1, -2, -3, 9], dtype=torch.int32)
    assert newest.resolve(named).tolist() == [0, 0, 7, 9]
