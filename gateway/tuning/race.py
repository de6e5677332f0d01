"""A race between candidates: who is measured next, who is out, and who has won.

Candidates are measured in turns, one round after another, so that a slow minute of the machine
meets all of them; two are compared by their differences within rounds. After the first round who is
far behind is out, unless other programs took more of the machine then; after each further one who
is behind the best by more than NOISES standard errors (a sequential test; how much differences vary
is learned from all races of a search). Who failed is measured once more when the others of the
round are through, if that may go otherwise, and is out if it does not. What is left after the last
round is a tie: then the candidate that was named first wins, the simplest. A pure state machine:
trials are told, nothing is started.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from statistics import fmean

from gateway.tuning.trial import Objective, Trial, percent

# Two standard errors: of candidates that are equally good one in forty is ended a round too early.
NOISES = 2.0
# What is believed of a difference within a round before any was seen twice, and how many
# differences that belief weighs: 6 % between two runs of one server on two cores that are shared.
FIRST_SPREAD, FIRST_WEIGHT = 0.06, 2


# After one round so far behind is out, in logarithms: a third slower. Of two runs of one server on
# two cores that eight other programs used as well, one in six was that much slower than the other.
FAR_BEHIND = 0.4
# Nobody is out after one round in which others took so many cores more than in the best one's: on
# two cores with 1.68 taken a server was 2.7 times slower than one like it with 1.33 taken.
BUSIER_CORES = 0.15


@dataclass(slots=True)
class Noise:
    """How much a difference of two candidates varies from round to round, as a search learns it."""

    squares: float = FIRST_WEIGHT * FIRST_SPREAD**2
    count: int = FIRST_WEIGHT

    @property
    def spread(self) -> float:
        """Standard deviation of a difference within a round."""
        return sqrt(self.squares / self.count)

    def learn(self, differences: Sequence[float]) -> None:
        """Take differences of the same two candidates, a round each."""
        if len(differences) > 1:
            mean = fmean(differences)
            self.squares += sum((difference - mean) ** 2 for difference in differences)
            self.count += len(differences) - 1


@dataclass(slots=True)
class Standing:
    """One candidate. worths, misses: a round each, see Objective. out: why, "" while it runs.
    failed: why it failed once, and was or will be measured again."""

    name: str
    trials: list[Trial] = field(default_factory=list)
    worths: list[float] = field(default_factory=list)
    misses: list[float] = field(default_factory=list)
    out: str = ""
    failed: str = ""

    @property
    def worth(self) -> float:
        """Mean over the rounds; -inf before the first."""
        return fmean(self.worths) if self.worths else -inf

    @property
    def miss(self) -> float:
        """Mean over the rounds, +inf before the first; 0 and less meets the limits."""
        return fmean(self.misses) if self.misses else inf

    @property
    def meets(self) -> bool:
        return self.miss <= 0


class Race:
    """Names in order of preference: in a tie the first one wins."""

    def __init__(
        self,
        names: Sequence[str],
        objective: Objective,
        max_rounds: int,
        noise: Noise | None = None,
    ) -> None:
        """noise: what earlier races learned; this one adds to it when it is over."""
        self.noise = noise or Noise()
        self.standings = {name: Standing(name) for name in names}
        self._objective = objective
        self._max_rounds = max_rounds
        self._round = 0

    def next(self) -> tuple[str, int] | None:
        """Return who is to be measured now and in which round, from 0; None when it is decided."""
        if self._round == self._max_rounds or (len(self.running) < 2 and self._round > 0):
            return None
        due = [standing for standing in self.running if len(standing.trials) <= self._round]
        # Others of this round give a starved machine time.
        first = min(due, key=lambda standing: bool(standing.failed), default=None)
        return (first.name, self._round) if first else None

    def record(self, name: str, trial: Trial) -> None:
        """Take the trial of the candidate that next() named."""
        standing = self.standings[name]
        if trial.may_pass and not standing.failed:
            standing.failed = trial.failure
            return
        standing.trials.append(trial)
        if trial.failure:
            standing.out = trial.failure
        else:
            standing.worths.append(self._objective.worth(trial))
            standing.misses.append(self._objective.miss(trial))
        if all(len(each.trials) > self._round for each in self.running):
            self._end_round()

    def teach(self) -> None:
        """Add what this race saw of noise to what the search knows. Call once, at its end."""
        self._teach(self.noise)

    @property
    def running(self) -> list[Standing]:
        return [standing for standing in self.standings.values() if not standing.out]

    @property
    def winner(self) -> Standing | None:
        """The best so far: of those that may be as good as the best, the one named first.

        None while nothing was measured, or if everything failed.
        """
        measured = [standing for standing in self.running if standing.worths]
        if not measured:
            return None
        best = self._best(measured)
        ties = [each for each in measured if each is best or not self._is_behind(each, best)]
        return next(each for each in ties if each.meets or not best.meets)

    def _end_round(self) -> None:
        self._round += 1
        running = self.running
        if len(running) < 2:
            return
        best = self._best(running)
        for standing in running:
            if standing is best or self._was_disturbed(standing, best):
                continue
            standing.out = self._reason(standing, best)

    def _was_disturbed(self, standing: Standing, best: Standing) -> bool:
        """Whether the only round may say more of other programs than of a candidate."""
        if self._round > 1:
            return False
        first, of_best = standing.trials[0], best.trials[0]
        return first.other_cores > of_best.other_cores + BUSIER_CORES

    def _best(self, standings: Sequence[Standing]) -> Standing:
        meeting = [standing for standing in standings if standing.meets]
        if meeting:
            return max(meeting, key=lambda standing: standing.worth)
        return min(standings, key=lambda standing: standing.miss)

    def _is_behind(self, standing: Standing, best: Standing) -> bool:
        return bool(self._reason(standing, best))

    def _reason(self, standing: Standing, best: Standing) -> str:
        """Say why a candidate is worse than the best beyond noise; "" if it is not."""
        if best.meets:
            if standing.miss - self._error(standing.misses) > 0:
                return f"beyond a limit by {percent(standing.miss):.0f} %"
            behind = _differences(best.worths, standing.worths)
            if fmean(behind) - self._error_of(behind) > 0:
                return f"behind {best.name} by {-percent(-fmean(behind)):.0f} %"
            return ""
        further = _differences(standing.misses, best.misses)
        if fmean(further) - self._error_of(further) > 0:
            return f"beyond a limit by {percent(standing.miss):.0f} %, {best.name} by less"
        return ""

    def _error(self, values: Sequence[float]) -> float:
        """What noise may make of the mean of one candidate's values."""
        return 0.0 if values[0] == -inf else self._error_of(values) / sqrt(2)

    def _error_of(self, differences: Sequence[float]) -> float:
        """What noise may make of the mean of differences of two candidates."""
        error = NOISES * self._noise_so_far().spread / sqrt(len(differences))
        return max(error, FAR_BEHIND) if len(differences) == 1 else error

    def _noise_so_far(self) -> Noise:
        """What was known before, and what this race's own rounds add."""
        noise = Noise(self.noise.squares, self.noise.count)
        self._teach(noise)
        return noise

    def _teach(self, noise: Noise) -> None:
        rows = [standing.worths for standing in self.standings.values() if standing.worths]
        longest = max(rows, key=len, default=[])
        for row in rows:
            if row is not longest:
                noise.learn(_differences(row, longest))


def _differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Subtract round by round, as far as both have come."""
    return [a - b for a, b in zip(first, second, strict=False)]
