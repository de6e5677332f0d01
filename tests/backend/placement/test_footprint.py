"""What the start says a rank will take of weights, against what it came to hold."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.config.gguf_header import read_headers
from backend.config.huggingface import config_of_fields
from backend.config.load import load_config
from backend.config.tensors import tensors_of
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import Engine, build_engine
from backend.linear.torch_weight_only import weight_only_kernels_work
from backend.linear.triton.repack import repack
from backend.native import absence
from backend.native import kernels as native
from backend.placement.batch_simulation import Load
from backend.placement.fit import fit
from backend.placement.footprint import Footprint, each_tensor, mlp_unit
from backend.placement.known_weights import DescribedWeights, HeaderWeights
from backend.placement.layout import Layout
from backend.placement.served_model import ServedModel
from backend.placement.sharding import split_model
from backend.quant.kept_weights import BlockColumns, KeptWeights, KernelKind
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat
from backend.settings import EngineSettings
from backend.weights.checkpoint import open_checkpoint
from backend.wire.control import Budget
from gateway.default_model import default_model
from tests.backend.factories import write_mixed_gguf, write_tiny_llama
from tests.backend.models.predicted_memory import BOX
from tests.backend.quantized_layouts import (
    LAYOUTS,
    awq_layout,
    gptq_layout,
    write_quantized_llama,
)
from tests.backend.tp_ranks import run_ranks


@pytest.mark.pairwise(
    unless=lambda quantization, dtype: quantization.startswith("int") and dtype != "bfloat16"
)
@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("quantization", ["auto", "int4", "int8", "none"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("tie", [True, False])
def test_footprint_is_what_is_held(
    tmp_path: Path, kernels: str, quantization: str, dtype: str, tie: bool
) -> None:
    if quantization.startswith("int") and (dtype != "bfloat16" or not weight_only_kernels_work()):
        pytest.skip("few bits need bfloat16 and torch's ops or ours")
    model = write_tiny_llama(tmp_path / "model", tie=tie)
    _check(model, kernels=kernels, quantization=quantization, dtype=dtype)


@pytest.mark.parametrize("quantization", ["auto", "int4", "int8", "none"])
@pytest.mark.parametrize("tie", [True, False])
def test_table_of_a_width_that_no_kernel_takes_is_counted(
    tmp_path: Path, quantization: str, tie: bool
) -> None:
    if quantization.startswith("int") and not weight_only_kernels_work():
        pytest.skip("few bits need torch's ops or ours")
    model = write_tiny_llama(tmp_path / "model", tie=tie, hidden_size=80)
    _check(model, dtype="bfloat16", quantization=quantization)


@pytest.mark.parametrize("kernels", ["auto", pytest.param("torch", marks=pytest.mark.slow)])
def test_footprint_of_the_default_model_is_what_is_held(kernels: str) -> None:
    _check(default_model(), kernels=kernels)


@pytest.mark.skipif(native is None, reason=absence)
def test_plan_of_the_default_model_is_what_is_held() -> None:
    """Its header and the settings are enough: weights and cache, to the byte."""
    path = default_model()
    config = load_config(path)
    settings = EngineSettings(kv_cache_bytes=1 << 22)
    model = ServedModel(config, HeaderWeights(path, config), "bfloat16", "native", settings)
    told: list[Budget] = []
    engine = _build(path, TensorParallel(), told)
    plan = fit(model, BOX, Layout(1), Load(32, 32, 1)).plan
    assert plan.rank_memory.packed_bytes + plan.rank_memory.weight_bytes == (
        engine.model.weight_bytes
    )
    assert plan.kv_bytes == engine.kv_bytes == engine.runner._kv_cache.data.nbytes
    assert plan.rank_memory.activation_bytes == told[0].activation_bytes


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("tie", [True, False])
def test_footprint_of_each_rank_is_what_it_holds(tmp_path: Path, kernels: str, tie: bool) -> None:
    model = write_mixed_gguf(tmp_path, tie=tie)

    def check(tp: TensorParallel) -> None:
        _check(model, tp, kernels=kernels, dtype="bfloat16")

    run_ranks(2, check)


@pytest.mark.parametrize("is_parallel", [False, True])
def test_first_expert_stands_for_all_of_its_layer(is_parallel: bool) -> None:
    """As a plan has it: a hundredth of the time with a hundred experts."""
    fields = {
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5},
        **{"max_position_embeddings": 64, "rope_theta": 1e4, "hidden_act": "silu"},
    }
    config = config_of_fields(fields, "tiny")
    stored = DescribedWeights(fields, config)
    kept = KeptWeights("int4", "native", dtype_bytes=2)
    for shard in split_model(config, 2, expert_parallel=is_parallel):
        brief = Footprint(stored, config, shard, kept, "bfloat16", kinds=stored.kinds(config))
        whole = Footprint(_Described(), config, shard, kept, "bfloat16")
        assert brief.total == whole.total
        assert len(whole.kept) > len(brief.kept)


class _Described:
    """All weights in bfloat16."""

    def weight_format(self, name: str, cols: slice = slice(None)) -> WeightFormat:
        return WeightFormat.DENSE

    def stored_type(self, name: str) -> str:
        return "BF16"

    def block_columns(self, name: str, cols: slice = slice(None)) -> BlockColumns:
        return BlockColumns()


@pytest.mark.skipif(native is None, reason=absence)
@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
@pytest.mark.parametrize("tie", [True, False])
def test_rank_holds_hardly_more_than_the_file(
    tmp_path: Path, weight_format: WeightFormat, tie: bool
) -> None:
    """Within 3 %, Q3_K within 4 %: scales of K-quants lie in whole bytes."""
    model = write_mixed_gguf(tmp_path, [weight_format], tie=tie)
    engine = _build(model, TensorParallel(), [])
    in_file = sum(
        tensor.num_bytes for header in read_headers(model) for tensor in header.tensors.values()
    )
    bound = 0.04 if weight_format is WeightFormat.Q3_K else 0.03
    assert engine.model.weight_bytes == pytest.approx(in_file, rel=bound)


@pytest.mark.skipif(native is None, reason=absence)
def test_weights_in_the_files_bits_are_not_said_to_be_expanded(tmp_path: Path) -> None:
    told: list[Budget] = []
    _build(write_mixed_gguf(tmp_path), TensorParallel(), told)
    assert told[0].expanded == ()
    assert told[0].weight_bytes < told[0].packed_bytes / 100, "norms alone are dense"


@pytest.mark.skipif(native is None, reason=absence)
def test_cut_inside_a_block_is_named_with_its_bytes(tmp_path: Path) -> None:
    model = write_mixed_gguf(
        tmp_path, [WeightFormat.Q4_K], num_heads=4, num_kv_heads=4, head_dim=64
    )

    def expanded(tp: TensorParallel) -> tuple[str, ...]:
        told: list[Budget] = []
        _build(model, tp, told)
        return told[0].expanded

    line = (
        "expanded to bfloat16: self_attn.o_proj of 2 layers (0.1 MB): "
        "a cut at 128 is inside a block of 256"
    )
    assert run_ranks(2, expanded) == [(line,)] * 2


def test_weights_that_torch_expands_are_named(tmp_path: Path) -> None:
    told: list[Budget] = []
    model = write_mixed_gguf(tmp_path, [WeightFormat.Q6_K])
    _build(model, TensorParallel(), told, kernels="torch", dtype="float32")
    [line] = told[0].expanded
    assert line.startswith("expanded to float32: model.embed_tokens, self_attn.q_proj of 2 layers")
    assert line.endswith("these kernels do not multiply Q6_K")
    _build(model, TensorParallel(), told, quantization="none")
    assert told[1].expanded == (), "that was asked for"


def test_mlp_is_cut_in_the_blocks_of_the_file(tmp_path: Path) -> None:
    for formats, unit in (([WeightFormat.Q4_0], 32), ([WeightFormat.Q4_0, WeightFormat.Q6_K], 256)):
        model = write_mixed_gguf(tmp_path, formats)
        config = load_config(model)
        assert mlp_unit(open_checkpoint(model, config), each_tensor(config)) == unit


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("layout", ["awq", "gptq, columns in any order", "int-quantized", "fp8"])
def test_footprint_of_a_quantised_directory_is_what_is_held(
    tmp_path: Path, layout: str, kernels: str
) -> None:
    model = write_quantized_llama(tmp_path, LAYOUTS[layout]).directory

    # Projections of one input share an order of its columns, and each counts one.
    spare = 0.02 if "any order" in layout else 0.0

    def check(tp: TensorParallel) -> None:
        _check(model, tp, spare, kernels=kernels, dtype="bfloat16")

    run_ranks(2, check)


@pytest.mark.skipif(native is None, reason=absence)
@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("awq", ""),
        ("int-quantized", ""),
        ("fp8", "there is no kernel for fp8"),
        ("gptq, columns in any order", ""),
        ("gptq, 8 bits, zero points", "there is no kernel for GPTQ int8 with zero points"),
        ("gptq, groups of 16", "there is no kernel for GPTQ int4 in groups of 16"),
    ],
)
def test_linears_of_a_directory_are_expanded_with_a_reason(
    tmp_path: Path, layout: str, reason: str
) -> None:
    model = write_quantized_llama(tmp_path, LAYOUTS[layout], num_layers=1).directory
    budgets: list[Budget] = []
    _build(model, TensorParallel(), budgets, dtype="bfloat16")
    [budget] = budgets
    assert len(budget.expanded) == bool(reason)
    assert all(reason in line for line in budget.expanded)


def _build(model: Path, tp: TensorParallel, told: list[Budget], **settings: Any) -> Engine:
    settings = {"device": "cpu", "kv_cache_bytes": 1 << 22, **settings}
    return build_engine(
        EngineSettings(model=str(model), tp=tp.size, **settings),
        tp,
        lambda phase, fraction: None,
        told.append,
    )


def _check(
    model: Path, tp: TensorParallel | None = None, spare: float = 0.0, **settings: Any
) -> None:
    """spare: the part by which less may be held than the start said."""
    told: list[Budget] = []
    engine = _build(model, tp or TensorParallel(), told, **settings)
    [budget] = told
    said = budget.weight_bytes + budget.packed_bytes
    assert said * (1 - spare) <= engine.model.weight_bytes <= said


@pytest.mark.parametrize(
    ("layout", "columns"), [("awq", 128), ("gptq", 128), ("int-quantized", 0), ("fp8", 128)]
)
@pytest.mark.parametrize("tp", [1, 2])
def test_scales_that_groups_share_on_a_gpu_are_counted_once(
    tmp_path: Path, layout: str, columns: int, tp: int
) -> None:
    """A scale for each 32 columns was counted: 9 to 17 % more than is kept, of groups of 128."""
    wanted = {
        "awq": awq_layout(size=128),
        "gptq": gptq_layout(WeightFormat.Q4_0, size=128),
    }.get(layout) or LAYOUTS[layout]
    directory = write_quantized_llama(
        tmp_path,
        wanted,
        **{"hidden_size": 256, "intermediate_size": 512, "num_layers": 1},
        **{"num_heads": 4, "num_kv_heads": 2, "head_dim": 128},
    ).directory
    config = load_config(directory)
    opened = open_checkpoint(directory, config)
    fields = json.loads((directory / "config.json").read_text())
    known = DescribedWeights(fields, config)
    kept = KeptWeights("auto", "triton", dtype_bytes=2)
    unit = mlp_unit(known, known.kinds(config))
    for shard in split_model(config, tp, unit):
        counted = {
            each.name: each.total_bytes
            for each in Footprint(known, config, shard, kept, "bfloat16").kept
        }
        held = 0
        names = [name for name in counted if name.endswith("_proj.weight")]
        for name in names:
            rows, cols = shard.slices(tensors_of(config)[name], config.head_dim)
            packed = repack(opened.read_quantized(name, rows, cols), torch.device("cpu"))
            assert packed.span == (columns or packed.width) // 32
            held += packed.data.nbytes
        assert sum(counted[name] for name in names) == pytest.approx(held, rel=0.03)
        start = Footprint(opened, config, shard, kept, "bfloat16")
        assert sum(start.total) == sum(counted.values())
    opened.close()


def test_columns_in_any_order_are_planned_for(tmp_path: Path) -> None:
    """Without the tensors, which alone say whose columns are of which group; in fewer bytes than a
    dense weight takes, however ranks cut."""
    layout = gptq_layout(WeightFormat.Q4_0, size=128, in_order=False)
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_layers": 1}
    heads = {"num_heads": 4, "num_kv_heads": 4, "head_dim": 128}
    directory = write_quantized_llama(tmp_path, layout, **sizes, **heads).directory
    config = load_config(directory)
    opened = open_checkpoint(directory, config)
    known = DescribedWeights(json.loads((directory / "config.json").read_text()), config)
    kinds: tuple[KernelKind, ...] = ("native", "triton")
    for kernels, tp in itertools.product(kinds, (1, 2, 4)):
        kept = KeptWeights("auto", kernels, dtype_bytes=2)
        shard = split_model(config, tp)[0]
        said, found = (
            Footprint(stored, config, shard, kept, "bfloat16") for stored in (known, opened)
        )
        linears = [each for each in found.kept if each.name.endswith("_proj.weight")]
        assert all(each.kept_as is WeightFormat.Q4_0 for each in linears)
        assert sum(each.total_bytes for each in linears) < sum(each.num_values for each in linears)
        assert sum(said.total) == pytest.approx(sum(found.total), rel=0.03)
    opened.close()
