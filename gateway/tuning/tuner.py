"""The search: a race between layouts, then one between what is chosen and each other value of a
setting, which takes over what it wins.

Knows no servers: what measures is given, and may raise KeyboardInterrupt, which ends the search
with the best so far. Called by gateway/commands/tune.py, and by tests with invented measurements.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.tuning.journal import Journal
from gateway.tuning.knobs import Choice, Knob, Values
from gateway.tuning.race import Noise, Race, Standing
from gateway.tuning.trial import Objective, Trial

LAYOUTS = "layout"
AS_IT_IS = "as chosen"
ONCE_MORE = ", once more"
LAYOUT_ROUNDS, KNOB_ROUNDS = 4, 3

# Starts a server with settings, loads it, stops it.
Measure = Callable[[dict[str, Any]], Trial]


class NothingServes(ValueError):
    """No layout could be measured; says why each could not."""


@dataclass(slots=True)
class Stage:
    """One race: of what, who took part, who won."""

    name: str
    standings: list[Standing]
    winner: str


@dataclass(slots=True)
class Outcome:
    """values: of the engine, beside its defaults. trial: the last of them that was measured.

    cut_off: why the search ended before its end, "" if it did not.
    """

    values: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    standing: Standing | None = None
    stages: list[Stage] = field(default_factory=list)
    cut_off: str = ""


class Tuner:
    """Runs the races; keeps and finds trials in a journal."""

    def __init__(
        self,
        objective: Objective,
        journal: Journal,
        measure: Measure,
        report: Callable[[str], None],
        *,
        begins: Callable[[str], None] = lambda name: None,
        deadline_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """report: is told what was found; begins: which trial is to be measured now. deadline_s: of
        the clock; no measurement begins after it."""
        self.outcome = Outcome()
        self._objective = objective
        self._journal = journal
        self._measure = measure
        self._report = report
        self._begins = begins
        self._noise = Noise()
        self._deadline_s = deadline_s
        self._clock = clock

    def choose_layout(self, layouts: Sequence[Choice]) -> None:
        """Race the layouts. Raises NothingServes if none can be measured."""
        standing = self._race(LAYOUTS, layouts, LAYOUT_ROUNDS)
        if standing is None and not self.outcome.cut_off:
            stage = self.outcome.stages[-1]
            reasons = [f"{each.name}: {each.out}" for each in stage.standings]
            raise NothingServes("\n".join(["no layout serves", *reasons]))

    def turn(
        self, knobs: Callable[[Values], Iterable[Knob]], lossless: Callable[[Choice], str]
    ) -> None:
        """Race what is chosen against each knob's values.

        knobs: says what is left to try beside what is chosen. lossless: says why a value that may
        cost exactness is not allowed, "" if it is.
        """
        for knob in knobs(self.outcome.values):
            if self.outcome.cut_off:
                return
            choices = [choice for choice in knob.choices if self._differs(choice)]
            if knob.is_lossy:
                choices = [choice for choice in choices if not self._refused(choice, lossless)]
            if choices:
                self._race(knob.name, [Choice(AS_IT_IS, {}), *choices], KNOB_ROUNDS)

    def _refused(self, choice: Choice, lossless: Callable[[Choice], str]) -> bool:
        if reason := lossless(choice):
            self._report(f"{choice.name}: left out, {reason}")
        return bool(reason)

    def _differs(self, choice: Choice) -> bool:
        values = self.outcome.values
        return any(values.get(name) != value for name, value in choice.values.items())

    def _race(self, stage: str, choices: Sequence[Choice], max_rounds: int) -> Standing | None:
        """Run one race and take over what its winner has."""
        by_name = {choice.name: choice for choice in choices}
        race = Race([*by_name], self._objective, max_rounds, self._noise)
        base = dict(self.outcome.values)
        try:
            while (turn := race.next()) is not None:
                name, round_ = turn
                again = ONCE_MORE if race.standings[name].failed else ""
                race.record(name, self._trial(stage, by_name[name], round_, base, again))
        except _TimeIsUp:
            self.outcome.cut_off = "the time that was given is over"
        except KeyboardInterrupt:
            self.outcome.cut_off = "interrupted"
        race.teach()
        winner = race.winner
        if winner is None:
            self.outcome.stages.append(Stage(stage, [*race.standings.values()], ""))
            return None
        self.outcome.stages.append(Stage(stage, [*race.standings.values()], winner.name))
        self._take_over(by_name[winner.name], winner)
        return winner

    def _take_over(self, choice: Choice, standing: Standing) -> None:
        outcome = self.outcome
        outcome.values |= choice.values
        outcome.standing = standing
        if choice.name != AS_IT_IS:
            outcome.name = ", ".join(filter(None, [outcome.name, choice.name]))
            self._report(f"chosen: {outcome.name}")

    def _trial(
        self, stage: str, choice: Choice, round_: int, base: Mapping[str, Any], again: str
    ) -> Trial:
        settings = {**base, **choice.values}
        name = choice.name + again
        known = self._journal.find(stage, name, round_, settings)
        if known is not None:
            return known
        if self._clock() > self._deadline_s:
            raise _TimeIsUp
        turn = f"{stage}, round {round_ + 1}, {name}"
        self._begins(turn)
        trial = self._measure(settings)
        self._journal.keep(stage, name, round_, settings, trial)
        more = trial.may_pass and not again
        later = "; it is tried once more when the others are through" if more else ""
        self._report(f"{turn}: {shown(trial)}{later}")
        return trial


class _TimeIsUp(Exception):
    """No time is left for another trial."""


def shown(trial: Trial) -> str:
    """Say in a line what was measured."""
    if trial.failure:
        return trial.failure
    return (
        f"{trial.tokens_per_s:.1f} tokens/s, TTFT {trial.ttft_p50_ms:.0f} ms "
        f"(p99 {trial.ttft_p99_ms:.0f}), between tokens {trial.itl_p50_ms:.1f} ms "
        f"(p99 {trial.itl_p99_ms:.1f})"
    )
