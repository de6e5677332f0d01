"""The catalogue's shapes, held against the parameters that the models' cards count."""

import pytest

from backend.config.huggingface import config_of_fields
from backend.config.tensors import EMBEDDING
from backend.placement.footprint import Footprint
from backend.placement.known_weights import DescribedWeights
from backend.placement.sharding import split_model
from backend.quant.kept_weights import KeptWeights
from backend.quant.weight_format import WeightFormat
from gateway.planning.catalogue import CatalogueEntry, entries, find_entry, nearest_names
from gateway.planning.models import HubAccess, find_model

WANTED = (
    *("OPT-1.3b", "Llama-2-7b", "Llama-2-13b", "Llama-2-70b", "Llama-3.1-8B", "Llama-3.3-70B"),
    *("Qwen2.5-7B", "Qwen3-30B-A3B", "Qwen3.5-9B", "gemma-3-4b", "gemma-4-E2B", "gpt-oss-20b"),
    *("Mistral-7B-v0.3", "Mixtral-8x7B", "Flan-T5-L", "Flan-T5-XL", "BERT-L", "BERT-XL"),
    "SmolLM2-135M",
)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_shapes_have_the_parameters_that_are_published(entry: CatalogueEntry) -> None:
    """Round figures within 1 %: that is how they are rounded."""
    counted = find_model(entry.name).num_parameters
    if entry.parameters:
        assert counted == entry.parameters
    else:
        assert counted == pytest.approx(entry.about, rel=0.01)


def test_well_known_models_are_there_once() -> None:
    names = [entry.name for entry in entries()]
    assert len(names) == len(set(names))
    assert set(WANTED) <= set(names)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("llama-2-13b", "Llama-2-13b"),
        ("meta-llama/Llama-2-13b-hf", "Llama-2-13b"),
        ("meta-llama/Llama-2-13b-chat-hf", "Llama-2-13b"),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen2.5-7B"),
        ("google/gemma-3-4b-it", "gemma-3-4b"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M"),
        ("google/flan-t5-xl", "Flan-T5-XL"),
    ],
)
def test_name_of_the_hub_or_of_a_tuned_variant_is_known(name: str, meant: str) -> None:
    entry = find_entry(name)
    assert entry is not None and entry.name == meant


def test_unknown_name_has_neighbours() -> None:
    assert find_entry("Llama-2-14b") is None
    assert nearest_names("Llama-2-14b")[0] == "Llama-2-13b"
    assert nearest_names("org/qwen3") and nearest_names("zzzzzz") == []


@pytest.mark.parametrize("name", ["", " ", "-it", "org/\N{COLLISION SYMBOL}", "x\u6a21Llama-2-7b"])
def test_name_of_other_characters_is_no_entry(name: str) -> None:
    """Other letters were left out, and an empty rest is the hub name of what no hub has."""
    assert find_entry(name) is None


def test_experts_of_gpt_oss_alone_are_in_mxfp4() -> None:
    entry = find_entry("gpt-oss-20b")
    assert entry is not None
    config = config_of_fields(entry.config, entry.name)
    stored = DescribedWeights(entry.config, config)
    layer = "model.layers.0"
    assert stored.weight_format(f"{layer}.mlp.experts.0.down_proj.weight") is WeightFormat.MXFP4
    for name in (f"{layer}.self_attn.q_proj.weight", f"{layer}.mlp.router.weight", EMBEDDING):
        assert stored.weight_format(name) is WeightFormat.DENSE
        assert stored.stored_type(name) == "BF16"


@pytest.mark.parametrize(
    ("name", "stored", "bits"),
    [
        ("Llama-3.1-8B-Instruct-FP8", "fp8", 8),
        ("RedHatAI/Llama-3.1-8B-Instruct-FP8-dynamic", "compressed-tensors fp8", 8),
        ("Qwen2.5-7B-Instruct-AWQ", "AWQ int4", 4),
        ("Qwen2.5-7B-Instruct-GPTQ-Int8", "GPTQ int8", 8),
        ("Llama-3.1-8B-Instruct-quantized.w4a16", "compressed-tensors int4", 4),
    ],
)
def test_name_says_how_weights_are_stored(name: str, stored: str, bits: int) -> None:
    """They were planned in bfloat16: 16 GB of weights where 8.5 are read."""
    found = find_model(name, HubAccess(offline=True))
    assert found.config.stored_dtype == stored
    assert found.name == name.rpartition("/")[2]
    kept = KeptWeights("auto", "triton", 2)
    (shard,) = split_model(found.config, 1)
    kinds = found.stored.kinds(found.config)
    footprint = Footprint(found.stored, found.config, shard, kept, "bfloat16", kinds=kinds)
    linears = [each for each in footprint.kept if each.role == "linear"]
    num_bytes = sum(each.total_bytes for each in linears)
    num_values = sum(each.count * each.num_values for each in linears)
    assert num_bytes * 8 / num_values == pytest.approx(bits, rel=0.07)
