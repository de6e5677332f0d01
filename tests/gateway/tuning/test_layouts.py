"""Which layouts are possible here, and which of them are worth measuring."""

import pytest

from gateway.options import SettingsError
from gateway.tuning.layouts import MAX_LAYOUTS, Devices, possible, promising
from tests.backend.factories import tiny_config


def names(count: int, num_kv_heads: int) -> tuple[list[str], dict[str, str]]:
    config = tiny_config(num_kv_heads=num_kv_heads, num_heads=2 * num_kv_heads)
    choices, refused = possible(config, Devices(cores=count))
    return [choice.name for choice in choices], refused


def test_two_cores_have_four_layouts() -> None:
    found = ["TP 1 x 2 threads", "TP 2 x 1 thread", "DP 2 x 1 thread", "PP 2 x 1 thread"]
    assert names(2, 2)[0] == found


def test_stages_come_in_any_number_that_leaves_no_core_over() -> None:
    config = tiny_config(num_layers=6)
    choices, refused = possible(config, Devices(cores=12))
    found = {choice.values["pp"] for choice in choices if "pp" in choice.values}
    assert found == {2, 3, 4, 6}
    assert "more stages than" in refused["PP 12 x 1 thread"]


def test_layout_that_cannot_be_cut_is_refused_with_its_reason() -> None:
    found, refused = names(2, 1)
    assert found == ["TP 1 x 2 threads", "DP 2 x 1 thread", "PP 2 x 1 thread"]
    assert "1 KV heads" in refused["TP 2 x 1 thread"]


def test_layouts_take_all_cores() -> None:
    found, _ = names(4, 4)
    assert "TP 2 x DP 2 x 1 thread" in found
    assert "TP 1 x 4 threads" in found
    assert "TP 2 x 2 threads" in found


def test_gpus_are_given_to_ranks_in_order() -> None:
    devices = Devices.read("cuda:0, cuda:1", cores=8)
    choices, _ = possible(tiny_config(num_kv_heads=2, num_heads=4), devices)
    assert [choice.values["devices"] for choice in choices] == [
        ("cuda:0",),
        *[("cuda:0", "cuda:1")] * 3,
    ]


@pytest.mark.parametrize("text", ["4xA10", "", "gpu"])
def test_devices_that_are_not_here_are_for_plan(text: str) -> None:
    with pytest.raises(SettingsError, match="unisono plan MODEL --devices"):
        Devices.read(text, cores=2)


def test_best_prediction_goes_first_and_hopeless_ones_are_out() -> None:
    choices = possible(tiny_config(num_kv_heads=2, num_heads=4), Devices(cores=2))[0][:3]
    speeds = {"TP 1 x 2 threads": 80.0, "TP 2 x 1 thread": 20.0, "DP 2 x 1 thread": 100.0}
    found = promising(choices, speeds, {"TP 4": "too many"})
    assert [choice.name for choice in found.choices] == ["DP 2 x 1 thread", "TP 1 x 2 threads"]
    assert found.left_out == {
        "TP 4": "too many",
        "TP 2 x 1 thread": "predicted to be 20% of the best",
    }


def test_without_predictions_all_are_measured_simplest_first() -> None:
    choices, refused = possible(tiny_config(num_kv_heads=16, num_heads=16), Devices(cores=16))
    found = promising(choices, {}, refused)
    assert found.choices == choices[:MAX_LAYOUTS]
    assert len(found.left_out) == len(choices) + len(refused) - MAX_LAYOUTS
