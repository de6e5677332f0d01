from pathlib import Path

import pytest

from backend import native
from backend.config.load import load_config
from backend.placement.device_profile import DeviceProfile, MultiplyRate
from backend.settings import EngineSettings
from gateway.tuning.knobs import Load, layout_choice
from gateway.tuning.predictions import predict_layouts, served_model
from tests.backend.factories import write_tiny_gguf, write_tiny_llama

CPU = DeviceProfile(
    name="two cores",
    kind="cpu",
    memory_bytes=4 << 30,
    read_bandwidth=1e9,
    multiply={"bf16": MultiplyRate(1e10)},
    link_bandwidth=1e9,
    link_latency_s=1e-4,
    threads=2,
)
CHOICES = [layout_choice(1, 1, 2), layout_choice(2, 1, 1), layout_choice(1, 2, 1)]


@pytest.mark.parametrize("kind", ["directory", "gguf"])
def test_layouts_of_a_model_here_are_predicted(tmp_path: Path, kind: str) -> None:
    path = write_tiny_llama(tmp_path / "model")
    if kind == "gguf":
        path = write_tiny_gguf(tmp_path / "model.gguf", path)
    config = load_config(path)
    model = served_model(
        path, config, EngineSettings(model=str(path), device="cpu", max_num_seqs=8)
    )
    assert model.kernels == ("native" if native.levels() else "torch")
    found, refused = predict_layouts(model, CPU, CHOICES, Load(2, 8, 8))
    assert set(found) | set(refused) == {choice.name for choice in CHOICES}
    assert all(each.tokens_per_s > 0 for each in found.values())
    assert found["DP 2 x 1 thread"].dp == 2


def test_layout_without_room_is_refused_in_words(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path / "model")
    model = served_model(path, load_config(path), EngineSettings(device="cpu", max_model_len=64))
    found, refused = predict_layouts(model, CPU, CHOICES[:1], Load(1, 1000, 1000))
    assert not found
    assert "2,000 tokens" in refused["TP 1 x 2 threads"]
