"""A follower in this process: a real ring and control line, a runner that computes nothing."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from backend.ranks.follower import Follower
from backend.step import PlanCorrupt, PlannedSequence, StepPlan, build_plan
from backend.wire.control import ChildLine, Stop, SupervisorLine, create_control
from backend.wire.local.heartbeat import HeartbeatPage, HeartbeatWriter, Phase
from backend.wire.local.ring import RingFds, RingReader, RingWriter, create_ring


@dataclass
class FakeRunner:
    runs_ahead = False
    page: HeartbeatPage
    steps: list[int] = field(default_factory=list)

    def run(self, plan: StepPlan) -> None:
        heartbeat = self.page.heartbeats()[0]
        assert (heartbeat.phase, heartbeat.step) == (Phase.STEP, plan.step)
        self.steps.append(plan.step)


class World:
    """A follower, the lead's end of the ring and the supervisor's end of the line."""

    def __init__(self) -> None:
        fds = create_ring(1 << 16)
        mine = RingFds(os.dup(fds.memory), (os.dup(fds.doorbells[0]),), (os.dup(fds.spaces[0]),))
        self.plans = RingWriter(fds, epoch=1)
        self.ring = RingReader(mine, epoch=1)
        ours, self._theirs = create_control()
        self.line = SupervisorLine(ours)
        self.page = HeartbeatPage(1, 4, 1)
        self.runner = FakeRunner(self.page)
        engine: Any = SimpleNamespace(runner=self.runner)
        heartbeat = HeartbeatWriter(os.dup(self.page.fd), 0, 1, 1)
        self.follower = Follower(engine, self.ring, ChildLine(self._theirs), heartbeat)

    def publish(self, step: int) -> None:
        plan = build_plan(step, [PlannedSequence([1, 2], 0, [0], 0, 0)], [], 4)
        assert self.plans.write(plan.to_bytes())

    def close(self) -> None:
        self.plans.close()
        self.ring.close()
        self.line.close()
        self._theirs.close()
        self.page.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_follower_runs_plans_in_order_until_told_to_stop(world: World) -> None:
    for step in (1, 2, 3):
        world.publish(step)
    world.line.send(Stop())
    world.follower.run()
    assert world.runner.steps == [1, 2, 3]
    assert world.page.heartbeats()[0].phase is Phase.IDLE


def test_follower_does_not_run_a_step_that_is_not_due(world: World) -> None:
    world.publish(1)
    world.publish(3)
    with pytest.raises(PlanCorrupt, match="step 3 came where 2 was due"):
        world.follower.run()
    assert world.runner.steps == [1]


@dataclass
class FlyingRunner:
    """Steps are on a device: collected one behind, or when nothing follows."""

    page: HeartbeatPage
    calls: list[str] = field(default_factory=list)
    hung_phases: list[Phase] = field(default_factory=list)
    runs_ahead = True

    def launch(self, plan: StepPlan) -> int:
        self.calls.append(f"launch {plan.step}")
        return int(plan.step)

    def collect(self, step: int) -> None:
        """A device that hangs keeps its host here, in a step as the supervisor sees it."""
        self.calls.append(f"collect {step}")
        self.hung_phases.append(self.page.heartbeats()[0].phase)


def test_follower_launches_a_step_before_the_last_is_over(world: World) -> None:
    runner = FlyingRunner(world.page)
    followed: Any = SimpleNamespace(runner=runner)
    world.follower._engine = followed
    for step in (1, 2, 3):
        world.publish(step)
    world.line.send(Stop())
    world.follower.run()
    steps = ["launch 1", "launch 2", "collect 1", "launch 3", "collect 2", "collect 3"]
    assert runner.calls == steps
    assert runner.hung_phases == [Phase.STEP] * 3
    assert world.page.heartbeats()[0].phase is Phase.IDLE


def test_follower_ends_when_its_group_has_broken_up(world: World) -> None:
    """What a device gives then is no result: the runner says so when it is collected."""

    class Broken(FlyingRunner):
        def collect(self, step: int) -> None:
            raise RuntimeError("rank 0 of the group has ended")

    followed: Any = SimpleNamespace(runner=Broken(world.page))
    world.follower._engine = followed
    world.publish(1)
    with pytest.raises(RuntimeError, match="has ended"):
        world.follower.run()
    assert world.page.heartbeats()[0].phase is Phase.STEP
