"""What a tuning says at its end: a table of every race, and why the winner is one."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev

from gateway.tuning.race import NOISES, Standing
from gateway.tuning.trial import Objective, Trial
from gateway.tuning.tuner import Outcome, Stage

RULE = (
    "Measured in turns; after the first round who was a third behind the best was out, unless "
    "others took more of the machine then; after each further one who was behind by more than "
    f"{NOISES:g} standard errors. In a tie the simpler one is chosen."
)
# So much of a core beside the server is no longer the system's own.
NOTICEABLE_CORES = 0.15
_HEAD = f"{'':<28}{'rounds':>7}{'tokens/s':>18}{'TTFT p99':>10}{'ITL p99':>9}{'GB':>6}  "


def as_table(outcome: Outcome, objective: Objective, predicted: Mapping[str, float]) -> str:
    """Write all races. predicted: of layouts by name, tokens/s or a stream's requests a second."""
    lines = [f"objective: {objective}", RULE]
    for stage in outcome.stages:
        lines += ["", f"{stage.name}:", _HEAD, *_rows(stage, predicted)]
    return "\n".join(lines)


def _rows(stage: Stage, predicted: Mapping[str, float]) -> Iterator[str]:
    for standing in stage.standings:
        words = words_of(standing, stage, predicted)
        yield f"  {standing.name:<26}{len(standing.trials):>7}{_figures(standing)}  {words}"


def words_of(standing: Standing, stage: Stage, predicted: Mapping[str, float]) -> str:
    """Say what became of a candidate, and what was predicted of it."""
    words = "chosen" if standing.name == stage.winner else standing.out or "as good, less simple"
    if not standing.trials:
        words = "not measured"
    if standing.failed and not standing.out:
        words += f"; failed once: {standing.failed}"
    if standing.name in predicted:
        words += f" (predicted {predicted[standing.name]:,.3g})"
    return words


def _figures(standing: Standing) -> str:
    good = [trial for trial in standing.trials if not trial.failure]
    if not good:
        return f"{'-':>18}{'-':>10}{'-':>9}{'-':>6}"
    speeds = [trial.tokens_per_s for trial in good]
    spread = f" +-{stdev(speeds):5.1f}" if len(speeds) > 1 else " " * 8
    means = mean_trial(good)
    return (
        f"{means.tokens_per_s:>10.1f}{spread}{means.ttft_p99_ms:>7.0f} ms"
        f"{means.itl_p99_ms:>6.0f} ms{means.memory_bytes / 1e9:>6.1f}"
    )


def mean_trial(trials: Sequence[Trial]) -> Trial:
    """Average the figures of some trials, none of which failed."""
    return Trial(
        tokens_per_s=fmean(trial.tokens_per_s for trial in trials),
        request_ms=fmean(trial.request_ms for trial in trials),
        ttft_p50_ms=fmean(trial.ttft_p50_ms for trial in trials),
        ttft_p99_ms=fmean(trial.ttft_p99_ms for trial in trials),
        itl_p50_ms=fmean(trial.itl_p50_ms for trial in trials),
        itl_p99_ms=fmean(trial.itl_p99_ms for trial in trials),
        memory_bytes=int(fmean(trial.memory_bytes for trial in trials)),
    )


def summary(outcome: Outcome) -> str:
    """Say in a line what the best does."""
    standing = outcome.standing
    if standing is None:
        return "nothing was measured"
    means = mean_trial([trial for trial in standing.trials if not trial.failure])
    return (
        f"{means.tokens_per_s:,.1f} tokens/s, TTFT p50 {means.ttft_p50_ms:,.0f} and p99 "
        f"{means.ttft_p99_ms:,.0f} ms, between tokens {means.itl_p50_ms:.1f} and "
        f"{means.itl_p99_ms:.1f} ms"
    )


def disturbance(outcome: Outcome) -> str:
    """Say how busy others kept the machine, if that may have decided races; "" if not."""
    trials = [t for stage in outcome.stages for each in stage.standings for t in each.trials]
    cores = fmean([trial.other_cores for trial in trials if not trial.failure] or [0.0])
    if cores < NOTICEABLE_CORES:
        return ""
    words = f"other programs took {cores:.1f} cores meanwhile"
    return f"{words}; on a quiet machine it may come out differently"


def misses(outcome: Outcome, objective: Objective) -> list[str]:
    """Say which limits the best that was found is beyond, and by how much; [] if it meets them."""
    standing = outcome.standing
    if standing is None or standing.meets:
        return []
    trials = [trial for trial in standing.trials if not trial.failure]
    # A limit each in turn: the means may be within both.
    return objective.misses(mean_trial(trials)) or objective.misses(max(trials, key=objective.miss))
