"""Continuous batching of one group, step by step, with a model of what steps cost instead of steps.

So many streams ask, each for the next completion as soon as it has one, as `unisono bench serve`
does; a group has it a while later, and of several one first. Decodes go first, prompts in chunks
beside them, of as many tokens as the time between tokens allows (scheduler/prefill_budget.py).
Sequences that began in the same step are one cohort; steps in
which nothing begins or ends are taken together. Of many streams several move as one, and those that
wait behind some batches of others are counted, not moved.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import log2

from backend.placement.cost_model import Rows, StepTime

# Completions of each stream, unless a load says: the first begin all at once, and then less so.
ROUNDS = 3
# scheduler/prefill_budget.py: prompts move by so many tokens beside decodes, and by a share of
# their time.
MIN_PREFILL_TOKENS = 32
MIN_SHARE = 0.5
_PROBE_TOKENS = 256
# So many streams are moved one by one, and so many batches of them.
MOST_MOVED = 64
_BATCHES = 4
# A growing context is looked at anew after so many steps, or once it has grown by so much.
_STRIDE, _STRIDE_SHARE = 64, 1 / 16
# Contexts between one and its double that limits are computed for.
_CONTEXTS = 24


@dataclass(frozen=True, slots=True)
class Load:
    """Tokens of each prompt and each completion, how many are asked for at a time, and how many
    rounds of so many."""

    prompt_tokens: int
    output_tokens: int
    concurrency: int
    rounds: int = ROUNDS


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """max_seqs: that run at a time. token_budget: of a step. inter_token_s: what a step with
    decodes and prompts in it should take at most; 0: any time. chunks: whether prompts may be cut.
    arrival_s: what a request takes from a client to the group; of several that are asked for at a
    time one is there first, and begins alone, and the others twice as late.
    """

    max_seqs: int
    token_budget: int
    inter_token_s: float
    chunks: bool = True
    arrival_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a group did, from the first completion to the last: busy_s seconds.

    ttft_s: of each completion. inter_token_s: between tokens of a stream, on average. times: of all
    steps together.
    """

    output_tokens: int
    prompt_tokens: int
    busy_s: float
    ttft_s: tuple[float, ...]
    inter_token_s: float
    times: StepTime

    @property
    def median_ttft_s(self) -> float:
        """The middle one of all times to a first token."""
        ordered = sorted(self.ttft_s)
        return ordered[len(ordered) // 2] if ordered else 0.0


@dataclass(slots=True)
class _Prompt:
    """Completions that were asked for at the same time, and are there at the same time.

    done: tokens of the first one's prompt.
    """

    count: int
    asked_s: float
    there_s: float
    done: int = 0


@dataclass(slots=True)
class _Cohort:
    """Sequences that began in the same step. born: how many steps there had been before."""

    count: int
    born: int


@dataclass(slots=True)
class _Group:
    """A group's queue and batch, as time goes by.

    running: the oldest first, all of which get a token in a step: num_steps less `born` are theirs.
    decodes: sequences in them; born: the sum of their `born`. together: what the limits on tokens
    are divided by.
    """

    load: Load
    limits: BatchLimits
    cost: Callable[[Rows], StepTime]
    together: int = 1
    waiting: deque[_Prompt] = field(default_factory=deque)
    running: deque[_Cohort] = field(default_factory=deque)
    decodes: int = 0
    born: int = 0
    num_steps: int = 0
    to_ask: int = 0
    now_s: float = 0.0
    times: StepTime = field(default_factory=StepTime)
    ttft_s: list[float] = field(default_factory=list)
    gaps_s: float = 0.0
    num_gaps: int = 0
    limits_of: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def context(self) -> float:
        """Tokens that a decoding row sees, on average."""
        seen = self.decodes * self.num_steps - self.born
        return self.load.prompt_tokens + seen / max(1, self.decodes)

    def ask(self, count: int) -> None:
        count = min(count, self.to_ask)
        self.to_ask -= count
        late_s = self.limits.arrival_s
        if late_s and count > 1:
            self.waiting.append(_Prompt(1, self.now_s, self.now_s + late_s))
            count, late_s = count - 1, 2 * late_s
        if count:
            self.waiting.append(_Prompt(count, self.now_s, self.now_s + late_s))

    def step(self) -> None:
        """Run one step, or as many as nothing begins or ends in."""
        decodes = self.decodes
        if not decodes:
            self.now_s = max(self.now_s, self.waiting[0].there_s)
        tokens, finished, position = self._take_prompts(decodes)
        repeat = 1
        if not finished and not self._is_awaiting:
            repeat += self._pass_over(tokens)
            position += (repeat - 1) * tokens / 2
        rows = Rows(
            decodes,
            self.context + (repeat - 1) / 2,
            tokens,
            position,
            decodes + sum(count for count, _ in finished),
        )
        time = self.cost(rows).times(repeat)
        self.times += time
        self.now_s += time.total
        self.gaps_s += decodes * time.total
        self.num_gaps += decodes * repeat
        ended = self._advance(repeat)
        begun = 0
        for count, asked_s in finished:
            self.ttft_s += [self.now_s - asked_s] * count
            begun += count
        if self.load.output_tokens <= 1:
            ended += begun
        elif begun:
            # The step has given each its first token.
            self._begin(_Cohort(begun, self.num_steps - 1))
        self.ask(ended)

    @property
    def _is_awaiting(self) -> bool:
        """Whether a request is on its way that may begin as soon as it is there."""
        has_room = self.decodes < self.limits.max_seqs
        return has_room and bool(self.waiting) and self.waiting[-1].there_s > self.now_s

    def _pass_over(self, tokens: int) -> int:
        """Return how many more steps are like this one, and take their parts of the prompt. tokens:
        that this one takes of a prompt without ending it."""
        more = max(_STRIDE, int(self.context * _STRIDE_SHARE)) - 1
        if self.running:
            produced = self.num_steps - self.running[0].born
            more = min(more, self.load.output_tokens - produced - 1)
        if tokens:
            prompt = self.waiting[0]
            more = min(more, (self.load.prompt_tokens - prompt.done - 1) // tokens)
            prompt.done += more * tokens
        return more

    def _begin(self, cohort: _Cohort) -> None:
        self.running.append(cohort)
        self.decodes += cohort.count
        self.born += cohort.count * cohort.born

    def _advance(self, steps: int) -> int:
        self.num_steps += steps
        ended = 0
        while self.running and self.num_steps - self.running[0].born >= self.load.output_tokens:
            cohort = self.running.popleft()
            self.decodes -= cohort.count
            self.born -= cohort.count * cohort.born
            ended += cohort.count
        return ended

    def _take_prompts(self, decodes: int) -> tuple[int, list[tuple[int, float]], float]:
        """Take tokens of waiting prompts into a step: how many, the prompts they end (count, when
        asked for), and the mean position."""
        room = self.limits.max_seqs - decodes
        if not self.waiting or room <= 0:
            return 0, [], 0.0
        left = self._prefill_limit(decodes)
        taken, weighed, finished = 0, 0.0, []
        size = self.load.prompt_tokens
        while self.waiting and room > 0 and (left > 0 or not taken):
            first = self.waiting[0]
            if first.there_s > self.now_s:
                break
            chunk = size - first.done
            if self.limits.chunks:
                chunk = min(chunk, max(1, left))
            elif taken and chunk > left:
                break
            taken += chunk
            weighed += chunk * (first.done + chunk / 2)
            left -= chunk
            if first.done + chunk < size:
                first.done += chunk
                break
            room -= 1
            finished.append((1, first.asked_s))
            first.count, first.done = first.count - 1, 0
            if not first.count:
                self.waiting.popleft()
        return taken, finished, weighed / max(1, taken)

    def _prefill_limit(self, decodes: int) -> int:
        """Return how many tokens of prompts a step may take; contexts that differ by less than a
        thirtieth have the same."""
        if not decodes or not self.limits.inter_token_s:
            return self.limits.token_budget - decodes
        known = (decodes, round(_CONTEXTS * log2(self.context + 1)))
        if known not in self.limits_of:
            self.limits_of[known] = self._limit_beside(decodes, self.context)
        return self.limits_of[known]

    def _limit_beside(self, decodes: int, context: float) -> int:
        whole = self.limits.token_budget - decodes
        decode_s = self.cost(Rows(decodes, context, sampled=decodes)).total
        probe = min(max(1, _PROBE_TOKENS // self.together), max(1, whole))
        both_s = self.cost(Rows(decodes, context, probe, probe / 2, decodes)).total
        token_s = max(1e-9, (both_s - decode_s) / probe)
        left_s = max(self.limits.inter_token_s - decode_s, MIN_SHARE * decode_s)
        least = max(1, MIN_PREFILL_TOKENS // self.together)
        return min(whole, max(least, int(left_s / token_s)))


def simulate(load: Load, limits: BatchLimits, cost: Callable[[Rows], StepTime]) -> BatchResult:
    """Run a load's rounds of completions of each stream. cost: of a step of this group."""
    streams = min(load.concurrency, _BATCHES * limits.max_seqs)
    together = -(-streams // MOST_MOVED)
    moved = -(-streams // together)

    def cost_of_all(rows: Rows) -> StepTime:
        decodes, tokens, sampled = (
            each * together for each in (rows.decodes, rows.prompt_tokens, rows.sampled)
        )
        return cost(Rows(decodes, rows.context, tokens, rows.position, sampled))

    few = replace(
        limits,
        max_seqs=max(1, limits.max_seqs // together),
        token_budget=max(1, limits.token_budget // together),
    )
    each = cost if together == 1 else cost_of_all
    group = _Group(load, few, each, together, to_ask=load.rounds * moved)
    group.ask(moved)
    while group.waiting or group.running:
        group.step()
    count = load.rounds * moved * together
    # Those that wait longer have as many before them as were not moved.
    queue_s = (load.concurrency - streams) * group.now_s / count
    return BatchResult(
        output_tokens=count * load.output_tokens,
        prompt_tokens=count * load.prompt_tokens,
        busy_s=group.now_s,
        ttft_s=tuple(waited_s + queue_s for waited_s in group.ttft_s),
        inter_token_s=group.gaps_s / max(1, group.num_gaps),
        times=group.times,
    )
