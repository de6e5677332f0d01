"""What an operator does to groups while they serve: drain, add, remove, restart.

One operation at a time; each may be repeated without harm. A request is never lost by one: a group
is stopped when no worker has anything left in it, or hands the rest on when its time is up.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from backend.config.errors import ModelError
from gateway.supervision.control_messages import (
    Add,
    Done,
    DrainGroup,
    Operation,
    Remove,
    Restart,
)
from gateway.supervision.groups import Group, GroupState
from gateway.supervision.state_changes import StateChanges

SAY_SECONDS = 5.0
# What a group holds is not told of when it changes, but may be looked at.
LOOK_SECONDS = 0.2
# A group that is started again finds the node that it had, unless something is wrong.
PLACING_SECONDS = 60.0

Say = Callable[[str], None]


# States that do not lead to work by themselves.
OVER = (GroupState.GIVEN_UP, GroupState.STOPPED)


class OperationError(Exception):
    """An operation is impossible or has failed. The message is for the operator."""


class GroupKeeper(Protocol):
    """What operations need of the supervisor."""

    @property
    def groups(self) -> dict[int, Group]:
        """By number."""

    def add_group(self, wanted: Add) -> Group:
        """Make a group with a new number, not started yet. Raises ModelError for one that cannot
        be."""

    def forget_group(self, group: Group) -> None:
        """Drop a group that has stopped."""


class GroupLines(Protocol):
    """What operations need of the channels."""

    def is_served(self, group: Group) -> bool:
        """Whether every worker takes requests for it."""

    def quiesce(self, group: Group) -> None:
        """Have every worker hand it no new work."""

    def is_quiet(self, group: Group) -> bool:
        """Whether no worker has anything left in it."""


class Operations:
    """Carries out one operation after another."""

    def __init__(self, keeper: GroupKeeper, lines: GroupLines, changes: StateChanges) -> None:
        self._keeper = keeper
        self._lines = lines
        self._changes = changes
        self._turn = asyncio.Lock()
        self._num_ever = len(keeper.groups)

    async def carry_out(self, operation: Operation, say: Say) -> Done:
        """Do it, and say meanwhile how far it is; return how it ended. Raises OperationError."""
        if self._turn.locked():
            say("another operation is under way; this one waits for it")
        async with self._turn:
            match operation:
                case Add():
                    group = self._add(operation, say)
                case DrainGroup(group=number, timeout_s=timeout_s):
                    await self._drain(self._find(number), timeout_s, say)
                    return Done(f"group {number} has stopped")
                case Remove(group=number, timeout_s=timeout_s):
                    return Done(await self._remove(number, timeout_s, say))
                case Restart(group=int() as number, timeout_s=timeout_s):
                    await self._restart(self._find(number), timeout_s, say)
                    return Done(f"group {number} has been restarted")
                case Restart(timeout_s=timeout_s):
                    for number in sorted(self._keeper.groups):
                        await self._restart(self._find(number), timeout_s, say)
                    return Done("all groups have been restarted")
        # Others need not wait for the node that this one may wait for, or could not end that.
        await self._until_served(group, say)
        return Done(f"group {group.number} serves", group.number)

    def _find(self, number: int) -> Group:
        if (group := self._keeper.groups.get(number)) is not None:
            return group
        if 0 <= number < self._num_ever:
            raise OperationError(f"group {number} has been removed")
        there = ", ".join(map(str, sorted(self._keeper.groups))) or "none"
        raise OperationError(f"there is no group {number}; there are: {there}")

    async def _remove(self, number: int, timeout_s: float, say: Say) -> str:
        if 0 <= number < self._num_ever and number not in self._keeper.groups:
            return f"group {number} has been removed already"
        group = self._find(number)
        await self._drain(group, timeout_s, say)
        self._keeper.forget_group(group)
        return f"group {number} has been removed"

    def _add(self, wanted: Add, say: Say) -> Group:
        try:
            group = self._keeper.add_group(wanted)
        except ModelError as error:
            raise OperationError(str(error)) from None
        self._num_ever = max(self._num_ever, group.number + 1)
        self._start(group, say)
        return group

    async def _restart(self, group: Group, timeout_s: float, say: Say) -> None:
        await self._drain(group, timeout_s, say)
        say(f"group {group.number} has stopped")
        self._start(group, say)
        await self._until_served(group, say, PLACING_SECONDS)

    def _start(self, group: Group, say: Say) -> None:
        say(f"group {group.number} starts")
        group.restarts.forgive()
        group.start()

    async def _until_served(self, group: Group, say: Say, placing_s: float | None = None) -> None:
        """Wait until a group takes work, or has failed for good, or finds no node for so long."""

        def is_over() -> bool:
            return self._lines.is_served(group) or group.state in OVER

        def has_moved() -> bool:
            return is_over() or group.waits_for != said

        loop = asyncio.get_running_loop()
        deadline = float("inf") if placing_s is None else loop.time() + placing_s
        said = ""
        while not is_over():
            if (waits_for := group.waits_for) != said:
                said = waits_for
                if said:
                    say(f"group {group.number} waits {said}")
            if not said:
                await self._changes.until(has_moved)
            elif not await self._changes.until(has_moved, _left(deadline)):
                raise OperationError(
                    f"group {group.number} waits {said}\n"
                    f"it starts once there is room; `unisono ctl remove {group.number}` gives it up"
                )
        if group.state in OVER:
            why = f": {group.last_fault.summary}" if group.last_fault is not None else ""
            raise OperationError(f"group {group.number} is {group.state}{why}")

    async def _drain(self, group: Group, timeout_s: float, say: Say) -> None:
        """Stop a group once nothing runs in it, or the time is up."""
        group.want_no_more()
        if group.state is GroupState.DRAINING:
            self._lines.quiesce(group)
            await self._until_quiet(group, timeout_s or None, say)
        group.stop()
        await self._changes.until(lambda: group.incarnation is None)

    async def _until_quiet(self, group: Group, timeout_s: float | None, say: Say) -> None:
        def is_over() -> bool:
            return group.state is not GroupState.DRAINING or self._lines.is_quiet(group)

        loop = asyncio.get_running_loop()
        deadline = float("inf") if timeout_s is None else loop.time() + timeout_s
        say_at = loop.time()
        while not is_over():
            if (now_s := loop.time()) >= deadline:
                say(f"group {group.number}: time is up, the rest goes on elsewhere")
                return
            if now_s >= say_at:
                say(f"group {group.number} drains: {_load(group)} left")
                say_at = now_s + SAY_SECONDS
            await self._changes.until(is_over, min(LOOK_SECONDS, deadline - now_s))


def _load(group: Group) -> str:
    assert group.incarnation is not None
    if (load := group.incarnation.replica.load) is None:
        return "what this gateway has sent it is"
    count = load.num_running + load.num_waiting
    return f"{count} sequence{'' if count == 1 else 's'}"


def _left(deadline: float) -> float | None:
    """Seconds that are left; None for ever."""
    if deadline == float("inf"):
        return None
    return max(0.0, deadline - asyncio.get_running_loop().time())
