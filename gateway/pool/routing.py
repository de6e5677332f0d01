"""Which group gets the next sequence: the one that will have its first token soonest.

Owns the measured step cost of each group and the memory of which group has seen which prefix. Knows
counts and token ids; which groups have credit is the pool's business.
"""

import random
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from backend.wire.messages import StepOutput, Submit, Totals
from gateway.pool.replica_epoch import ReplicaEpoch

# Weight of the newest step in the averages: they follow a change of load within a second.
NEWEST = 0.05
# Until a group has shown its own: the ratio is that of a small model on a CPU.
PROMPT_TOKEN_S, ROW_S = 0.5e-3, 2.5e-3
# A long prompt has as many prefixes as its length in blocks has bits.
MAX_PREFIX_BLOCKS = 64
MAX_PREFIXES = 8192
# The best of 32 is among the best 3 % of any number, on average; looking at one takes half a us.
MAX_CANDIDATES = 32


@dataclass(slots=True)
class StepCost:
    """What a step costs in one group: seconds for a row, and for each prompt token on top."""

    row_s: float = ROW_S
    prompt_token_s: float = PROMPT_TOKEN_S
    _totals: Totals = field(default_factory=Totals)

    def take(self, frame: StepOutput) -> None:
        """Learn from a frame. One that follows several steps is an average of them."""
        before, now = self._totals, frame.totals
        self._totals = now
        spent_s = (now.schedule_s + now.forward_s + now.sample_s) - (
            before.schedule_s + before.forward_s + before.sample_s
        )
        num_prompt_tokens = now.num_prompt_tokens - before.num_prompt_tokens
        num_rows = now.num_output_tokens - before.num_output_tokens
        if num_prompt_tokens <= 0 < num_rows:
            self.row_s += NEWEST * (spent_s / num_rows - self.row_s)
        elif num_prompt_tokens > 0:
            own_s = max(0.0, spent_s - num_rows * self.row_s) / num_prompt_tokens
            self.prompt_token_s += NEWEST * (own_s - self.prompt_token_s)

    def inherit(self) -> "StepCost":
        """Return the cost to expect of the same group after a restart."""
        return StepCost(self.row_s, self.prompt_token_s)

    def first_token_s(self, num_prompt_tokens: int, num_rows: int) -> float:
        """Predict when a prompt has its first token.

        num_prompt_tokens: its own and those before it. num_rows: sequences it shares steps with.
        """
        return num_prompt_tokens * self.prompt_token_s + num_rows * self.row_s


class Candidate(Protocol):
    """What routing looks at in one epoch of a group.

    num_pending_tokens: prompt tokens it holds and has not computed. num_rows: its sequences.
    """

    @property
    def replica_epoch(self) -> ReplicaEpoch: ...
    @property
    def step_cost(self) -> StepCost: ...
    @property
    def block_size(self) -> int: ...
    @property
    def num_pending_tokens(self) -> int: ...
    @property
    def num_rows(self) -> int: ...


C = TypeVar("C", bound=Candidate)


class Router:
    """Chooses among groups that could all take a sequence."""

    def __init__(self) -> None:
        self._memory = PrefixMemory()
        self._random = random.Random(0)

    def choose(
        self,
        groups: Sequence[C],
        submit: Submit,
        find: Callable[[ReplicaEpoch], C | None] = lambda owner: None,
    ) -> C:
        """Return the best of `groups`, which is not empty, and remember what it will have seen.

        Of more than MAX_CANDIDATES groups it is the best of so many, and of the one that has seen
        the prompt's beginning, which find() looks for among them.
        """
        known = self._memory.find(submit, groups[0].block_size)
        if len(groups) > MAX_CANDIDATES:
            owner = find(known[0]) if known is not None else None
            groups = self._some_of(groups)
            if owner is not None and owner not in groups:
                groups = [*groups, owner]
        num_tokens = len(submit.prompt_ids) + len(submit.output_ids)

        def first_token_s(group: C) -> float:
            cached = known[1] if known is not None and known[0] == group.replica_epoch else 0
            num_prompt_tokens = group.num_pending_tokens + num_tokens - cached
            return group.step_cost.first_token_s(num_prompt_tokens, group.num_rows)

        best = min(groups, key=first_token_s)
        self._memory.remember(submit, best.block_size, best.replica_epoch)
        return best

    def _some_of(self, groups: Sequence[C]) -> Sequence[C]:
        """Return MAX_CANDIDATES of the groups, neighbours in an order that means nothing."""
        start = self._random.randrange(len(groups))
        some = groups[start : start + MAX_CANDIDATES]
        missing = MAX_CANDIDATES - len(some)
        return [*some, *groups[:missing]] if missing else some


class PrefixMemory:
    """Remembers which epoch of a group was given which beginnings of prompts, the newest only."""

    def __init__(self) -> None:
        self._owners: OrderedDict[int, ReplicaEpoch] = OrderedDict()

    def remember(self, submit: Submit, block_size: int, replica_epoch: ReplicaEpoch) -> None:
        """A prompt has gone to a group."""
        for key, _ in _prefixes(submit, block_size):
            self._owners[key] = replica_epoch
            self._owners.move_to_end(key)
        while len(self._owners) > MAX_PREFIXES:
            self._owners.popitem(last=False)

    def find(self, submit: Submit, block_size: int) -> tuple[ReplicaEpoch, int] | None:
        """Return who was given the longest known beginning of a prompt, and its tokens."""
        for key, num_tokens in reversed(_prefixes(submit, block_size)):
            if (owner := self._owners.get(key)) is not None:
                return owner, num_tokens
        return None


def _prefixes(submit: Submit, block_size: int) -> list[tuple[int, int]]:
    """Return (hash, tokens) of the beginnings of 1, 2, 4, ... blocks. Its last token never counts:
    that one is computed in any case."""
    data = array("I", submit.prompt_ids[: MAX_PREFIX_BLOCKS * block_size]).tobytes()
    prefixes = []
    num_tokens = block_size
    while num_tokens < len(submit.prompt_ids) and num_tokens <= MAX_PREFIX_BLOCKS * block_size:
        prefixes.append((hash((submit.cache_salt, data[: 4 * num_tokens])), num_tokens))
        num_tokens *= 2
    return prefixes
