"""What is predicted of layouts on this machine's CPU, for a model that is here.

Puts together what `unisono plan` does for any model: the file's header, the machine's profile, the
model of cost. Starts nothing, loads no weight.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend import native
from backend.config.errors import ModelError
from backend.config.hf_directory import read_json
from backend.config.model_config import ModelConfig
from backend.placement import batch_simulation
from backend.placement.device_profile import DeviceProfile
from backend.placement.known_weights import DescribedWeights, HeaderWeights, KnownWeights
from backend.placement.layout import Layout
from backend.placement.prediction import Prediction, predict
from backend.placement.served_model import ServedModel
from backend.quant.kept_weights import KernelKind
from backend.settings import EngineSettings
from gateway.tuning.knobs import Choice, Load


def served_model(path: Path, config: ModelConfig, settings: EngineSettings) -> ServedModel:
    """Describe a model as ranks on this machine's CPU would have it. settings: with device cpu.

    Raises ModelError.
    """
    is_ours = bool(native.levels()) and settings.device == "cpu" and settings.kernels != "torch"
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "bfloat16" if is_ours else "float32"
    kernels: KernelKind = "native" if is_ours and dtype == "bfloat16" else "torch"
    return ServedModel(config, _stored(path, config), dtype, kernels, settings)


def predict_layouts(
    model: ServedModel,
    profile: DeviceProfile,
    choices: Sequence[Choice],
    load: Load,
    rounds: int = batch_simulation.ROUNDS,
) -> tuple[dict[str, Prediction], dict[str, str]]:
    """Return predictions by the names of choices, and why there is none of others. rounds: of
    requests of each stream."""
    found, refused = {}, {}
    for choice in choices:
        values = dict(choice.values)
        tp, dp, pp = (int(str(values.pop(name, 1))) for name in ("tp", "dp", "pp"))
        layout = Layout(tp, dp, pp)
        values.pop("devices", None)
        try:
            found[choice.name] = predict(
                model.changed(**values),
                profile,
                layout,
                batch_simulation.Load(load.prompt_tokens, load.max_tokens, load.streams, rounds),
            )
        except ModelError as error:
            refused[choice.name] = str(error).splitlines()[0]
    return found, refused


def _stored(path: Path, config: ModelConfig) -> KnownWeights:
    if path.is_dir():
        return DescribedWeights(read_json(path / "config.json", dict[str, Any]), config)
    return HeaderWeights(path, config)
