"""The search with an invented machine: it climbs, remembers, stops when told, and says why."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.tuning.journal import Journal, JournalError
from gateway.tuning.knobs import Choice, Knob, Load, Values, knobs, layout_choice
from gateway.tuning.report import words_of
from gateway.tuning.trial import Objective, Trial
from gateway.tuning.tuner import LAYOUTS, NothingServes, Tuner

CONDITIONS = {"model": "m", "load": "16 streams"}
LAYOUT_CHOICES = [layout_choice(1, 1, 2), layout_choice(2, 1, 1), layout_choice(1, 2, 1)]


class Machine:
    """tokens/s follow from settings, always the same."""

    def __init__(self) -> None:
        self.measured: list[dict[str, Any]] = []

    def __call__(self, settings: dict[str, Any]) -> Trial:
        self.measured.append(settings)
        speed = 100.0 * (1.5 if settings.get("dp") == 2 else 0.6 if settings.get("tp") == 2 else 1)
        speed *= 1.3 if settings.get("block_size") == 64 else 1
        return Trial(speed, 1e6 / speed, 10, 20, 5, 9, 10**9)


def no_news(words: str) -> None:
    pass


def block_knob(values: Values) -> Iterator[Knob]:
    yield Knob(
        "tokens a block", (Choice("16", {"block_size": 16}), Choice("64", {"block_size": 64}))
    )


def allowed(choice: Choice) -> str:
    return ""


def tuner_of(path: Path, machine: Any, **options: Any) -> Tuner:
    return Tuner(Objective(), Journal(path, CONDITIONS), machine, no_news, **options)


def test_best_layout_and_settings_are_found(tmp_path: Path) -> None:
    machine = Machine()
    tuner = tuner_of(tmp_path / "trials", machine)
    tuner.choose_layout(LAYOUT_CHOICES)
    tuner.turn(block_knob, allowed)
    assert tuner.outcome.values == {"tp": 1, "dp": 2, "threads": 1, "block_size": 64}
    assert tuner.outcome.name == "DP 2 x 1 thread, 64"
    assert [stage.winner for stage in tuner.outcome.stages] == ["DP 2 x 1 thread", "64"]
    assert not tuner.outcome.cut_off


def test_each_trial_is_named_before_it_is_measured(tmp_path: Path) -> None:
    """A first trial takes a minute: nothing was to be seen until it was over."""
    machine, begun = Machine(), list[tuple[str, int]]()

    def begins(name: str) -> None:
        begun.append((name, len(machine.measured)))

    tuner = tuner_of(tmp_path / "trials", machine, begins=begins)
    tuner.choose_layout(LAYOUT_CHOICES)
    assert begun[0] == ("layout, round 1, TP 1 x 2 threads", 0)
    assert [number for _, number in begun] == list(range(len(machine.measured)))
    again = list[str]()
    tuner_of(tmp_path / "trials", machine, begins=again.append).choose_layout(LAYOUT_CHOICES)
    assert not again


def test_losing_layouts_are_measured_once(tmp_path: Path) -> None:
    machine = Machine()
    tuner_of(tmp_path / "trials", machine).choose_layout(LAYOUT_CHOICES)
    assert len(machine.measured) == 3


def test_search_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    first = Machine()

    def interrupted(settings: dict[str, Any]) -> Trial:
        if len(first.measured) == 4:
            raise KeyboardInterrupt
        return first(settings)

    path = tmp_path / "trials"
    tuner = tuner_of(path, interrupted)
    tuner.choose_layout(LAYOUT_CHOICES)
    tuner.turn(block_knob, allowed)
    assert tuner.outcome.cut_off == "interrupted"
    assert tuner.outcome.values["dp"] == 2, "the best so far"
    second = Machine()
    again = tuner_of(path, second)
    again.choose_layout(LAYOUT_CHOICES)
    again.turn(block_knob, allowed)
    assert again.outcome.values["block_size"] == 64
    everything = Machine()
    whole = tuner_of(tmp_path / "others", everything)
    whole.choose_layout(LAYOUT_CHOICES)
    whole.turn(block_knob, allowed)
    assert first.measured + second.measured == everything.measured


def test_half_a_line_of_an_earlier_run_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    tuner_of(path, Machine()).choose_layout(LAYOUT_CHOICES)
    path.write_bytes(path.read_bytes()[:-9])
    machine = Machine()
    tuner_of(path, machine).choose_layout(LAYOUT_CHOICES)
    assert len(machine.measured) == 1
    assert len(Journal(path, CONDITIONS)) == 3


def test_no_trial_begins_after_the_deadline(tmp_path: Path) -> None:
    machine = Machine()
    tuner = tuner_of(
        tmp_path / "trials", machine, deadline_s=2.5, clock=lambda: float(len(machine.measured))
    )
    tuner.choose_layout(LAYOUT_CHOICES[:2])
    tuner.turn(block_knob, allowed)
    assert len(machine.measured) == 3
    assert tuner.outcome.cut_off == "the time that was given is over"
    assert tuner.outcome.values["tp"] == 1


def test_trial_that_died_is_told_kept_and_tried_once_more(tmp_path: Path) -> None:
    machine, said = Machine(), list[str]()

    def starved(settings: dict[str, Any]) -> Trial:
        trial = machine(settings)
        is_first = len(machine.measured) == 1
        return Trial(failure="silent for 9 s", may_pass=True) if is_first else trial

    path = tmp_path / "trials"
    tuner = Tuner(Objective(), Journal(path, CONDITIONS), starved, said.append)
    tuner.choose_layout(LAYOUT_CHOICES)
    assert "silent for 9 s; it is tried once more when the others are through" in said[0]
    assert said[3].startswith("layout, round 1, TP 1 x 2 threads, once more: 100.0 tokens/s")
    stage = tuner.outcome.stages[0]
    recovered = dataclasses.replace(stage.standings[0], out="")
    assert "failed once: silent for 9 s" in words_of(recovered, stage, {})
    again = Machine()
    tuner_of(path, again).choose_layout(LAYOUT_CHOICES)
    assert not again.measured, "what died and what went well are both kept"


def test_layouts_that_all_fail_are_told_with_their_reasons(tmp_path: Path) -> None:
    tuner = tuner_of(tmp_path / "trials", lambda settings: Trial(failure="not enough memory"))
    with pytest.raises(NothingServes, match="TP 2 x 1 thread: not enough memory"):
        tuner.choose_layout(LAYOUT_CHOICES)


def test_lossy_value_is_raced_only_where_its_loss_is_allowed(tmp_path: Path) -> None:
    def lossy_knob(values: Values) -> Iterator[Knob]:
        choices = (Choice("int8", {"activations": "int8"}), Choice("64", {"block_size": 64}))
        yield Knob("activations", choices, is_lossy=True)

    machine = Machine()
    tuner = tuner_of(tmp_path / "trials", machine)
    tuner.choose_layout(LAYOUT_CHOICES[:1])
    tuner.turn(lossy_knob, lambda choice: "it loses 3 %" if choice.name == "int8" else "")
    assert not [settings for settings in machine.measured if "activations" in settings]
    assert tuner.outcome.values["block_size"] == 64


@pytest.mark.parametrize(
    ("conditions", "words"),
    [({"model": "n", "load": "16 streams"}, "another model: m, not n"), ({}, "")],
)
def test_journal_of_other_trials_is_refused(
    tmp_path: Path, conditions: dict[str, str], words: str
) -> None:
    path = tmp_path / "trials"
    Journal(path, CONDITIONS)
    if not words:
        path.write_text("hello\n")
        conditions, words = CONDITIONS, "holds no trials"
    with pytest.raises(JournalError, match=words):
        Journal(path, conditions)


def test_layouts_are_named_as_people_say_them() -> None:
    assert [choice.name for choice in LAYOUT_CHOICES] == [
        "TP 1 x 2 threads",
        "TP 2 x 1 thread",
        "DP 2 x 1 thread",
    ]
    assert layout_choice(2, 2, 0).name == "TP 2 x DP 2"
    assert LAYOUTS == "layout"


def names_of(values: Values, load: Load, **options: Any) -> dict[str, list[str]]:
    given: dict[str, Any] = {"cores": 2, "levels": ["avx2"], "allows_loss": False}
    found = knobs(values, load, **given | options)
    return {knob.name: [choice.name for choice in knob.choices] for knob in found}


def test_knobs_leave_out_what_makes_no_difference() -> None:
    one_stream = names_of({"tp": 1}, Load(1, 128, 128))
    assert one_stream["sequences a step"] == []
    assert one_stream["tokens a step"] == ["max_num_batched_tokens 128"]
    assert one_stream["kernels"] == []
    many = names_of({"tp": 1}, Load(64, 512, 128), levels=["avx512", "avx2"])
    assert many["sequences a step"] == ["max_num_seqs 32", "max_num_seqs 16"]
    assert many["kernels"] == ["kernels avx2"]
    assert len(many["tokens a step"]) == 4


def test_threads_leave_a_core_to_the_gateway_where_there_is_one() -> None:
    assert names_of({"tp": 1}, Load(16, 8, 8))["threads a rank"] == ["threads 1"]
    assert names_of({"tp": 2, "threads": 1}, Load(16, 8, 8))["threads a rank"] == []
    assert names_of({"tp": 2}, Load(16, 8, 8), cores=16)["threads a rank"] == ["threads 7"]


def test_rounding_is_tried_only_where_a_loss_is_allowed() -> None:
    assert "weights" not in names_of({}, Load(16, 8, 8))
    lossy = names_of({}, Load(16, 8, 8), allows_loss=True)
    assert lossy["activations"] == ["activations int8"]
    assert lossy["weights"] == ["quantization int8", "quantization int4"]
