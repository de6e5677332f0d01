"""`unisono tune`: finds by measuring how to serve a model on this machine under a load.

Begins with what is predicted, races what is promising, and writes a file of settings that `unisono
serve --config` takes. Progress goes to stderr, tables to stdout.
"""

import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from backend import native
from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.placement.device_profile import num_cores
from backend.placement.prediction import Prediction
from backend.settings import EngineSettings
from gateway import hub, options
from gateway.bench.machine import Conditions, commit, machine_name
from gateway.bench.presets import with_preset
from gateway.bench.trace import TraceError
from gateway.bench.watch import Bars
from gateway.commands.bench import extra_fields
from gateway.commands.output_files import check_output
from gateway.planning.devices import cpu_profile
from gateway.tuning import report
from gateway.tuning.journal import Journal, JournalError
from gateway.tuning.knobs import Choice, Knob, Values, knobs
from gateway.tuning.layouts import Devices, Layouts, possible, promising
from gateway.tuning.loss import LossError
from gateway.tuning.measurer import Measurer
from gateway.tuning.predictions import predict_layouts, served_model
from gateway.tuning.trial import Objective
from gateway.tuning.trial_load import TrialLoad
from gateway.tuning.tune_settings import TuneSettings
from gateway.tuning.tuned_file import FOUND, check_replaceable, write_tuned
from gateway.tuning.tuner import NothingServes, Outcome, Tuner

_KNOWN = frozenset(TuneSettings.__struct_fields__)
# What a preset of `bench serve` calls our limits.
_LIMITS = {"ttft_limit_ms": "max_ttft_ms", "itl_limit_ms": "max_itl_ms"}
_LOSSY = frozenset({"activations", "kv_cache_dtype", "quantization"})
INTERRUPTED = 130


def run(given: Mapping[str, object]) -> int:
    """Carry out the command: 0, 1 if nothing that was found meets the limits, 130 on Ctrl-C.

    Raises SettingsError.
    """
    flags = dict(given)
    model = str(flags.pop("model", ""))
    settings = load(flags)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        bars = Bars("tune", None)
        tuning = _Tuning(model, settings, bars)
        with bars:
            outcome, layouts = tuning.search()
        return tuning.finish(outcome, layouts)
    except (hub.ModelNotFound, ModelError, TraceError, JournalError, NothingServes) as error:
        sys.exit(f"unisono: {error}")


def load(flags: Mapping[str, object]) -> TuneSettings:
    """Check the flags. Raises SettingsError."""
    chosen = with_preset(flags, _KNOWN | _LIMITS.keys())
    for theirs, ours in _LIMITS.items():
        value = chosen.pop(theirs, None)
        if value is not None and ours not in chosen:
            chosen[ours] = value
    settings = options.read(TuneSettings, chosen)
    extra_fields(settings.extra)
    check_output(out=settings.out, results=settings.results, html=settings.html)
    check_replaceable(Path(settings.out))
    if settings.html:
        from gateway.bench import charts

        charts.check_installed()
    return settings


class _Tuning:
    """One run of the command."""

    def __init__(self, model: str, settings: TuneSettings, bars: Bars) -> None:
        self._settings = settings
        self._bars = bars
        self._say = bars.prints
        self._model = model
        self._devices = Devices.read(settings.devices, num_cores())
        self._path = hub.resolve(model)
        self._config = _config_of(self._path)
        self._load = TrialLoad(settings, extra_fields(settings.extra))
        self._objective = Objective(settings.objective, settings.max_ttft_ms, settings.max_itl_ms)
        self._measurer = Measurer({**self._base(), "model": str(self._path)}, self._load.run, bars)
        self._losses: dict[str, float] = {}

    def search(self) -> tuple[Outcome, Layouts]:
        """Measure until nothing is left to try, the time is up, or Ctrl-C."""
        layouts = self._layouts()
        self._say(f"{self._config.name}: {self._load}; {self._objective}")
        for line in _lines(layouts.left_out):
            self._say(f"left out: {line}")
        results = Path(self._settings.results or f"{self._settings.out}.trials")
        journal = Journal(results, self._conditions())
        if len(journal):
            self._say(f"going on with {len(journal)} trials of {results}")
        deadline_s = time.monotonic() + 60 * self._settings.minutes
        tuner = Tuner(
            self._objective,
            journal,
            self._measurer.measure,
            self._say,
            begins=self._bars.says,
            deadline_s=deadline_s,
        )
        try:
            tuner.choose_layout(layouts.choices)
            tuner.turn(self._knobs, lambda choice: self._refusal(tuner.outcome, choice))
        except KeyboardInterrupt:  # between two trials
            tuner.outcome.cut_off = "interrupted"
        return tuner.outcome, layouts

    def _base(self) -> dict[str, Any]:
        """Settings that no race changes."""
        settings = self._settings
        base: dict[str, Any] = {"device": "cuda" if self._devices.gpus else "cpu"}
        if settings.max_model_len:
            base["max_model_len"] = settings.max_model_len
        return base

    def _layouts(self) -> Layouts:
        """What is worth measuring. Of GPUs nothing is predicted: only a machine's own profile is
        close enough to leave layouts out by it."""
        choices, refused = possible(self._config, self._devices)
        predicted: dict[str, Prediction] = {}
        if not self._devices.gpus:
            settings = EngineSettings(model=str(self._path), **self._base())
            model = served_model(self._path, self._config, settings)
            profile = cpu_profile()
            self._say(f"predicted from {profile.source}")
            predicted, unfit = predict_layouts(model, profile, choices, self._load.shape)
            refused |= unfit
            choices = [choice for choice in choices if choice.name in predicted]
        if not choices:
            raise NothingServes(
                "\n".join([f"no layout of {self._config.name} fits this machine", *_lines(refused)])
            )
        is_speed = self._objective.goal == "throughput"
        speeds = {
            name: each.tokens_per_s if is_speed else 1 / each.request_s
            for name, each in predicted.items()
        }
        return promising(choices, speeds, refused)

    def _conditions(self) -> dict[str, Any]:
        """What must be the same for trials to be compared."""
        return {
            "model": str(self._path),
            "machine": machine_name(),
            "load": str(self._load),
            "requests": self._settings.requests,
            "extra": self._settings.extra,
            "settings": self._base(),
            "commit": commit(),
        }

    def _knobs(self, values: Values) -> Iterable[Knob]:
        return knobs(
            values,
            self._load.shape,
            cores=num_cores(),
            levels=[] if self._devices.gpus else native.levels(),
            allows_loss=self._settings.max_loss > 0,
        )

    def _refusal(self, outcome: Outcome, choice: Choice) -> str:
        """Say why a value is not allowed that makes answers less exact; "" if it is."""
        exact = {name: v for name, v in outcome.values.items() if name not in _LOSSY}
        try:
            loss = self._measurer.loss({**outcome.values, **choice.values}, exact)
        except LossError as error:
            return f"what it loses is not known: {error}"
        self._losses[choice.name] = loss
        self._say(f"{choice.name}: loses {loss:.2f} % of perplexity")
        allowed = self._settings.max_loss
        return f"it loses {loss:.2f} %, more than {allowed:g} %" if loss > allowed else ""

    def finish(self, outcome: Outcome, layouts: Layouts) -> int:
        """Print and write what was found; return the exit status."""
        if outcome.standing is None:
            sys.exit(f"unisono: {outcome.cut_off}; nothing was measured, nothing is written")
        print(report.as_table(outcome, self._objective, layouts.predicted))
        for name, loss in self._losses.items():
            print(f"{name} loses {loss:.2f} % of perplexity")
        misses = report.misses(outcome, self._objective)
        values = self._base() | ({"model": str(self._path)} if self._model else {})
        write_tuned(Path(self._settings.out), values | outcome.values, self._comments(outcome))
        print(f"\nbest found: {outcome.name}; {report.summary(outcome)}")
        for miss in misses:
            print(f"nothing meets the objective: {miss}")
        if disturbance := report.disturbance(outcome):
            print(disturbance)
        if outcome.cut_off:
            print(f"not everything was tried: {outcome.cut_off}; the same command goes on")
        print(f"written to {self._settings.out}: unisono serve --config {self._settings.out}")
        self._write_page(outcome, layouts)
        if outcome.cut_off == "interrupted":
            return INTERRUPTED
        return 1 if misses else 0

    def _comments(self, outcome: Outcome) -> list[str]:
        lines = [
            f"{FOUND}, {time.strftime('%Y-%m-%d')}, for {self._config.name}",
            f"on {machine_name()}.",
            f"Load: {self._load}.",
            f"Objective: {self._objective}.",
            f"Measured: {report.summary(outcome)}.",
        ]
        lines += [f"Loss of {name}: {loss:.2f} %." for name, loss in self._losses.items()]
        misses = [f"Not met: {miss}." for miss in report.misses(outcome, self._objective)]
        cut_off = [f"Not everything was tried: {outcome.cut_off}."] if outcome.cut_off else []
        return lines + misses + cut_off

    def _write_page(self, outcome: Outcome, layouts: Layouts) -> None:
        if not self._settings.html:
            return
        from gateway.tuning.report_page import tuning_page

        text = tuning_page(
            f"{self._config.name} tuned",
            f"{outcome.name}: {report.summary(outcome)}",
            outcome,
            self._objective,
            layouts.predicted,
            Conditions.now(),
            [("load", str(self._load)), ("settings", self._settings.out)],
        )
        Path(self._settings.html).write_text(text, encoding="utf-8")


def _config_of(path: Path) -> ModelConfig:
    config = load_config(path)
    if config.pooling is not None:
        raise ModelError(
            f"{path.name} gives vectors or scores, no text\nunisono tune measures models that "
            "write; python -m tests.bench.embeddings measures these"
        )
    return config


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _lines(reasons: Mapping[str, str]) -> list[str]:
    return [f"{name}: {reason}" for name, reason in reasons.items()]
