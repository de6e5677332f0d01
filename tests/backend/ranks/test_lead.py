"""The lead in this process: real channels, a runner that invents tokens."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from backend.config.cache_groups import FULL_GROUPS, CacheGroup
from backend.config.spec import PositionBias, PromptEncoder
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.model_runner import StepResult
from backend.ranks.lead import Lead
from backend.settings import EngineSettings
from backend.step import StepPlan
from backend.wire.control import (
    Attach,
    ChildLine,
    Listen,
    Retire,
    Stop,
    SupervisorLine,
    create_control,
)
from backend.wire.local.channel import create_channel
from backend.wire.local.ends import LocalWorkerEnd
from backend.wire.local.heartbeat import HeartbeatPage, HeartbeatWriter
from backend.wire.messages import FinishReason, Ready, Reply, SeqOutput, Served, StepOutput, Submit
from backend.wire.sampling import SamplingParams
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.dial import DialError, dial
from backend.wire.tcp.ends import Goodbye, TcpWorkerEnd
from backend.wire.tcp.handshake import Reason
from backend.wire.tcp.sockets import create_listener
from tests.backend.wire.tcp.pairs import HELLO, INCARNATION, SECRET

GOOD = SamplingParams(max_tokens=1)
BAD = SamplingParams(max_tokens=0)  # nothing to do


@dataclass
class FakeRunner:
    runs_ahead = False
    num_full_gathers: int = 0
    plans: list[StepPlan] = field(default_factory=list)

    def run(self, plan: StepPlan) -> StepResult:
        self.plans.append(plan)
        return StepResult([7] * len(plan.sample_rows))


@dataclass
class AheadRunner(FakeRunner):
    """Draws 7, and ends the text with 0 after so many steps. events: what it was asked for."""

    runs_ahead = True
    num_steps: int = 3
    events: list[tuple[str, int]] = field(default_factory=list)

    def waits(self, plan: StepPlan) -> bool:
        return False

    def launch(self, plan: StepPlan) -> StepPlan:
        self.events.append(("launch", plan.step))
        return plan

    def collect(self, plan: StepPlan) -> StepResult:
        self.events.append(("collect", plan.step))
        return StepResult([7 if plan.step < self.num_steps else 0] * len(plan.sample_rows))


class Worker:
    """The worker's end of a channel."""

    def __init__(self, line: SupervisorLine, worker: int, epoch: int) -> None:
        channel = create_channel()
        line.send(Attach(worker, 0, epoch), channel.lead_end)
        self.end = LocalWorkerEnd(epoch, [os.dup(fd) for fd in channel.worker_end])
        channel.close()

    def submit(self, seq_id: int, params: SamplingParams, prompt_ids: list[int]) -> None:
        assert self.end.send(Submit(seq_id, prompt_ids, [], params))

    def outputs(self) -> list[SeqOutput]:
        replies = self.end.receive()
        assert isinstance(replies[0], Ready)
        return [out for reply in replies[1:] for out in cast(StepOutput, reply).outputs]


class World:
    """A lead and the supervisor's end of its line."""

    def __init__(
        self,
        test_faults: str = "",
        encoder: PromptEncoder | None = None,
        runner: FakeRunner | None = None,
    ) -> None:
        settings = EngineSettings(block_size=4, max_num_seqs=4, test_faults=test_faults)
        self.runner = runner or FakeRunner()
        engine: Any = SimpleNamespace(
            num_blocks=64,
            groups=FULL_GROUPS,
            kv_bytes=1 << 20,
            token_budget=16,
            max_num_seqs=4,
            num_slots=0,
            state_bytes=0,
            max_model_len=256,
            config=SimpleNamespace(
                vocab_size=100,
                eos_token_ids=(0,),
                pooling=None,
                runs_whole=False,
                encoder=encoder,
            ),
            runner=self.runner,
            tp=TensorParallel(),
            device="cpu",
            dtype="float32",
            kernels="none",
        )
        ours, theirs = create_control()
        self.line, self._theirs = SupervisorLine(ours), theirs
        self._page = HeartbeatPage(1, 4, 1)
        heartbeat = HeartbeatWriter(os.dup(self._page.fd), 0, 1, 1)
        self.lead = Lead(0, settings, engine, ChildLine(theirs), None, heartbeat)
        self.lead.announce(1, [1], 0)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *failure: object) -> None:
        self.line.send(Stop())
        self.lead.run()
        self._page.close()
        self.line.close()
        self._theirs.close()

    def refused(self, reason: Reason) -> int:
        """Return what the heartbeat says of refused connections."""
        [beat] = self._page.heartbeats()
        return beat.load.num_refused[list(Reason).index(reason)]

    def turn(self) -> None:
        """Let the lead take what has arrived and run one step."""
        self.line.send(Stop())  # with something to hear it does not wait
        self.lead.receive()
        self.lead.step()


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def test_lead_outlives_a_worker_with_requests_under_way(world: World) -> None:
    """A refusal found its pipe broken, the rest of its records were admitted all the same, and the
    next step's tokens for a worker no longer known ended the group."""
    dead, other = Worker(world.line, 0, 10), Worker(world.line, 1, 11)
    world.turn()
    dead.submit(1, BAD, [1, 2])
    dead.submit(2, GOOD, [1, 2])
    dead.end.close()
    other.submit(1, GOOD, [1, 2])
    world.turn()
    world.turn()
    [output] = other.outputs()
    assert (output.token_ids, output.finish_reason) == ([7], FinishReason.LENGTH)


def test_lead_tells_what_the_cache_holds_of_one_and_of_several(world: World) -> None:
    def told() -> tuple[int, int, int]:
        world.lead.announce(1, [1], 0)
        ready = world.lead._ready
        assert (ready.num_blocks, ready.kv_bytes) == (64, 1 << 20)
        return ready.max_model_len, ready.kv_sequence_tokens, ready.kv_capacity_tokens

    assert told() == (256, 256, 256)
    engine: Any = world.lead._engine
    engine.max_model_len = 100
    assert told() == (100, 100, 256)
    engine.groups = (*FULL_GROUPS, CacheGroup((1,), 8))
    # A sequence of 100 has 25 blocks, and 7 that steps of 16 tokens need for a window of 8.
    assert told() == (100, 100, 64 * 100 // 32)
    engine.max_model_len = 256
    assert told() == (256, 228, 228)


def test_lead_refuses_with_the_next_frame(world: World) -> None:
    worker = Worker(world.line, 0, 10)
    worker.submit(1, BAD, [1])
    world.turn()
    world.turn()
    [output] = worker.outputs()
    assert output.finish_reason is FinishReason.ERROR and output.is_final
    assert "nothing to generate" in output.error


def test_lead_refuses_nothing_to_the_workers_successor(world: World) -> None:
    worker = Worker(world.line, 0, 10)
    world.turn()
    worker.submit(1, BAD, [1])
    world.lead.receive()
    successor = Worker(world.line, 0, 12)
    world.turn()
    assert successor.outputs() == []


def test_lead_refuses_a_request_whose_admission_raises_alone() -> None:
    with World("admission:seed=5") as world:
        worker = Worker(world.line, 0, 10)
        worker.submit(1, SamplingParams(max_tokens=1, seed=5), [1])
        worker.submit(2, SamplingParams(max_tokens=1, seed=6), [1])
        world.turn()
        world.turn()
        by_id = {output.seq_id: output for output in worker.outputs()}
        assert by_id[1].finish_reason is FinishReason.ERROR
        assert by_id[2].token_ids == [7]


def test_lead_refuses_an_id_without_a_row_alone(world: World) -> None:
    """The embedding has 100 rows. A second such request ended the server."""
    worker = Worker(world.line, 0, 10)
    worker.submit(1, GOOD, [1, 100])
    worker.submit(2, GOOD, [1, 99])
    world.turn()
    world.turn()
    outputs = {output.seq_id: output for output in worker.outputs()}
    assert outputs[1].finish_reason is FinishReason.ERROR and outputs[1].is_final
    assert "token id 100" in outputs[1].error
    assert outputs[2].finish_reason is FinishReason.LENGTH


def test_encoder_reads_the_prompt_and_the_decoder_goes_on() -> None:
    encoder = PromptEncoder((), PositionBias(8, 20), start_token_id=9, max_model_len=256)
    with World(encoder=encoder) as world:
        worker = Worker(world.line, 0, 10)
        world.turn()
        prompt = [1, 2, 3, 4, 5]
        assert worker.end.send(Submit(1, prompt, [6, 7], SamplingParams(max_tokens=3)))
        worker.submit(2, GOOD, [])
        world.turn()
        plan = world.runner.plans[-1]
        assert plan.encoder_ids.tolist() == prompt
        assert plan.input_ids.tolist() == [9, 6, 7]
        assert plan.cross_lens.tolist() == [5]
        world.turn()
        ends = {out.seq_id: (out.token_ids, out.finish_reason) for out in worker.outputs()}
        assert ends == {1: ([7], FinishReason.LENGTH), 2: ([], FinishReason.ERROR)}
        assert len(world.runner.plans) == 1


def test_encoder_input_and_answer_end_in_their_own_blocks() -> None:
    """64 blocks of 4 tokens hold 253 tokens and 3 beside them, not 255 and 1."""
    encoder = PromptEncoder((), PositionBias(8, 20), start_token_id=9, max_model_len=256)
    with World(encoder=encoder) as world:
        worker = Worker(world.line, 0, 10)
        world.turn()
        ready = worker.end.receive()[0]
        assert isinstance(ready, Ready)
        assert ready.kv_sequence_tokens == 252


def test_lead_passes_service_on_to_all_other_workers(world: World) -> None:
    """And survives that one of them is found gone by that."""
    one, two, gone = (Worker(world.line, number, 10 + number) for number in range(3))
    world.turn()
    for worker in (one, two):
        assert isinstance(worker.end.receive()[0], Ready)
    gone.end.close()
    assert one.end.send(Served({"key": 5.0}))
    one.submit(1, GOOD, [1, 2])
    world.turn()
    assert Served({"key": 5.0}) in two.end.receive()
    assert not [reply for reply in one.end.receive() if isinstance(reply, Served)]


def test_lead_launches_a_step_before_it_knows_the_last_tokens() -> None:
    """The text ends with the third token: the fourth step's is dropped, and the lead can rest."""
    runner = AheadRunner()
    with World(runner=runner) as world:
        worker = Worker(world.line, 0, 10)
        worker.submit(1, SamplingParams(max_tokens=9), [1, 2])
        for _ in range(6):
            world.turn()
        outputs = worker.outputs()
        assert [token for output in outputs for token in output.token_ids] == [7, 7, 0]
        assert outputs[-1].finish_reason is FinishReason.STOP
        assert runner.events == [
            ("launch", 1), ("launch", 2), ("collect", 1), ("launch", 3), ("collect", 2),
            ("launch", 4), ("collect", 3), ("collect", 4),
        ]  # fmt: skip
        assert not world.lead._scheduler.has_work


def test_worker_that_is_gone_takes_its_sequences_out_of_the_air() -> None:
    with World(runner=AheadRunner()) as world:
        dead, other = Worker(world.line, 0, 10), Worker(world.line, 1, 11)
        for worker in (dead, other):
            worker.submit(1, SamplingParams(max_tokens=9), [1, 2])
        world.turn()
        world.turn()
        dead.end.close()
        for _ in range(5):
            world.turn()
        tokens = [token for output in other.outputs() for token in output.token_ids]
        assert tokens == [7, 7, 0]
        scheduler = world.lead._scheduler
        assert not scheduler.has_work and scheduler.pool.num_free == 64


def test_lead_lets_in_workers_of_other_machines_and_says_goodbye(world: World) -> None:
    listener = create_listener("127.0.0.1")
    host, port = listener.getsockname()
    with listener:
        world.line.send(Listen(SECRET, INCARNATION), (os.dup(listener.fileno()),))
    world.turn()
    end = TcpWorkerEnd(dial(LeadAddress(host, port, SECRET), HELLO))
    assert end.send(Submit(1, [1, 2], [], GOOD))
    replies: list[object] = []
    while not any(isinstance(reply, StepOutput) and reply.outputs for reply in replies):
        world.turn()
        replies += end.receive()
    assert isinstance(replies[0], Ready) and replies[0].epoch == HELLO.epoch
    world.line.send(Stop())
    world.lead.run()
    with pytest.raises(Goodbye):
        while True:
            end.receive()
    end.close()


def test_worker_without_tokens_hears_of_a_step_only_what_is_news(world: World) -> None:
    """With many gateways most workers have nothing in most steps of a group."""
    busy, idle = Worker(world.line, 0, 10), Worker(world.line, 1, 11)
    world.turn()
    busy.submit(1, SamplingParams(max_tokens=12), [1, 2])
    frames = 0
    for _ in range(12):
        world.turn()
        frames += len(idle.end.receive())
    assert len(busy.outputs()) == 12
    assert 1 <= frames < 12


def test_group_that_rests_tells_every_worker(world: World) -> None:
    """A gateway that had nothing in the last steps went on showing what others had run."""
    busy = Worker(world.line, 0, 10)
    world.turn()
    busy.submit(1, SamplingParams(max_tokens=12), [1, 2])
    world.turn()
    idle = Worker(world.line, 1, 11)
    told: list[Reply] = []
    while world.lead._scheduler.has_work:
        world.turn()
        told += idle.end.receive()
    running = [reply.num_running for reply in told if isinstance(reply, StepOutput)]
    assert running[0] == 1 and running[-1] == 0


def test_lead_about_to_stop_grants_other_gateways_nothing(world: World) -> None:
    """Its own workers have been told to send no more; what they still hold goes on."""
    listener = create_listener("127.0.0.1")
    host, port = listener.getsockname()
    with listener:
        world.line.send(Listen(SECRET, INCARNATION), (os.dup(listener.fileno()),))
    own = Worker(world.line, 0, 10)
    world.turn()
    hello = msgspec.structs.replace(HELLO, gateway=9)
    other = TcpWorkerEnd(dial(LeadAddress(host, port, SECRET), hello))
    [ready, *_] = heard(world, other)
    assert isinstance(ready, Ready) and ready.credit > 0
    world.line.send(Retire())
    world.turn()
    last = heard(world, other)[-1]
    assert isinstance(last, StepOutput) and last.credit == 0
    mine = own.end.receive()[-1]
    assert isinstance(mine, StepOutput) and mine.credit > 0
    late = TcpWorkerEnd(dial(LeadAddress(host, port, SECRET), hello))
    [ready, *_] = heard(world, late)
    assert isinstance(ready, Ready) and ready.credit == 0
    other.close()
    late.close()


def heard(world: World, end: TcpWorkerEnd) -> list[Reply]:
    """Turn the lead until a worker has been let in and heard of a step; return what it heard."""
    replies: list[Reply] = []
    while not any(isinstance(reply, StepOutput) for reply in replies):
        world.turn()
        replies += end.receive()
    return replies


def test_lead_shows_in_its_heartbeat_whom_it_has_refused(world: World) -> None:
    listener = create_listener("127.0.0.1")
    host, port = listener.getsockname()
    with listener:
        world.line.send(Listen(SECRET, INCARNATION), (os.dup(listener.fileno()),))
    world.turn()
    with pytest.raises(DialError):
        dial(LeadAddress(host, port, b"not the secret, that is sure"), HELLO)
    refused = 0
    while not refused:  # it is counted after the answer
        world.turn()
        refused = world.refused(Reason.SECRET)
    assert refused == 1 and world.refused(Reason.SCHEMA) == 0
