"""Which ways there are to share a model out over this machine, in the order of what is predicted.

Knows configurations and predictions; measures nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.placement.sharding import split_model
from backend.placement.stages import check_stages
from gateway.options import SettingsError
from gateway.tuning.knobs import Choice, layout_choice

# A layout that is predicted at less than this share of the best one is not measured: predictions
# are held to 20 % (tests/bench/README.md), so this is far beyond their error.
WORTH_MEASURING = 0.4
MAX_LAYOUTS = 6
_DEVICE = re.compile(r"cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Devices:
    """Where ranks may be: threads of a CPU, or GPUs by name."""

    cores: int = 0
    gpus: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str, cores: int) -> "Devices":
        """Read --devices. Raises SettingsError for what this machine cannot be asked for."""
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if names == ("cpu",):
            return cls(cores=cores)
        if names and all(_DEVICE.fullmatch(name) for name in names):
            return cls(cores, names)
        raise SettingsError(
            f"--devices {text}: tune measures, so it takes what is in this machine: cpu, or GPUs "
            "by name, cuda:0,cuda:1\nfor devices that are not here: unisono plan MODEL --devices "
            f"{text}"
        )

    @property
    def count(self) -> int:
        """How many ranks there may be."""
        return len(self.gpus) or self.cores


@dataclass(slots=True)
class Layouts:
    """choices: worth measuring, the best prediction first. predicted: by name, tokens/s or requests
    of a stream a second, as wanted, where there is a prediction. left_out: why not the others."""

    choices: list[Choice] = field(default_factory=list)
    predicted: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def possible(config: ModelConfig, devices: Devices) -> tuple[list[Choice], dict[str, str]]:
    """Return all layouts that take every device, and why others do not serve the model."""
    choices, refused = [], {}
    for tp, dp, pp in _shapes(devices.count):
        ranks = tp * dp * pp
        threads = 0 if devices.gpus else devices.cores // ranks
        choice = layout_choice(tp, dp, threads, pp)
        if devices.gpus:
            choice.values["devices"] = devices.gpus[:ranks]  # type: ignore[index]
        try:
            split_model(config, tp)
            check_stages(config, pp)
        except ModelError as error:
            refused[choice.name] = str(error).splitlines()[0]
        else:
            choices.append(choice)
    return choices, refused


def promising(
    choices: Sequence[Choice], predicted: dict[str, float], refused: dict[str, str]
) -> Layouts:
    """Order layouts by prediction and leave out what is far behind. predicted: may lack some."""
    best = max(predicted.values(), default=0.0)
    ordered = sorted(choices, key=lambda choice: -predicted.get(choice.name, best))
    found = Layouts(predicted=predicted, left_out=dict(refused))
    for choice in ordered:
        speed = predicted.get(choice.name, best)
        if speed < WORTH_MEASURING * best:
            found.left_out[choice.name] = f"predicted to be {speed / best:.0%} of the best"
        elif len(found.choices) == MAX_LAYOUTS:
            found.left_out[choice.name] = f"{MAX_LAYOUTS} others are predicted to be better"
        else:
            found.choices.append(choice)
    return found


def _shapes(count: int) -> Iterator[tuple[int, int, int]]:
    """Yield TP, DP and PP; the simplest first."""
    for number in _divisors(count):
        for pp in _divisors(number):
            for tp in reversed(_divisors(number // pp)):
                yield tp, number // pp // tp, pp


def _divisors(number: int) -> list[int]:
    return [part for part in range(1, number + 1) if number % part == 0]
