"""Who holds what of a model of transformers: read off its class's plan and its sizes."""

from pathlib import Path
from typing import Any

from backend.config.load import load_config
from backend.config.tensor_info import Cut
from backend.models.foreign_plan import Role
from backend.models.transformers_backend import Skeleton, build_skeleton
from tests.backend.foreign_models import write_foreign


def skeleton_of(path: Path, architecture: str, **fields: Any) -> Skeleton:
    directory = write_foreign(path, architecture, **fields)
    return build_skeleton(load_config(directory, "transformers"), directory)


def cuts(skeleton: Skeleton, prefix: str) -> dict[str, Cut]:
    assert skeleton.config.foreign is not None
    return {
        name.removeprefix(prefix).removesuffix(".weight"): info.cut
        for name, info in skeleton.config.foreign.tensors.items()
        if name.startswith(prefix)
    }


def test_usual_layer_is_cut_as_a_llama_is(tmp_path: Path) -> None:
    skeleton = skeleton_of(tmp_path / "m", "Cohere2ForCausalLM")
    assert cuts(skeleton, "model.layers.0.") == {
        "self_attn.q_proj": Cut.QUERY_ROWS,
        "self_attn.k_proj": Cut.KV_ROWS,
        "self_attn.v_proj": Cut.KV_ROWS,
        "self_attn.o_proj": Cut.QUERY_COLUMNS,
        "mlp.gate_proj": Cut.MLP_ROWS,
        "mlp.up_proj": Cut.MLP_ROWS,
        "mlp.down_proj": Cut.MLP_COLUMNS,
        "input_layernorm": Cut.WHOLE,
    }
    assert not skeleton.layout.why_whole


def test_fused_projections_are_whole_or_gathered(tmp_path: Path) -> None:
    """Phi 3: q, k and v in one matrix that no rank can cut by rows; gate and up are gathered."""
    skeleton = skeleton_of(tmp_path / "m", "Phi3ForCausalLM")
    assert cuts(skeleton, "model.layers.1.self_attn.") == {
        "qkv_proj": Cut.WHOLE,
        "o_proj": Cut.QUERY_COLUMNS,
    }
    roles = skeleton.layout.linears
    assert roles["model.layers.1.mlp.gate_up_proj"] is Role.GATHERED
    assert roles["model.layers.1.mlp.down_proj"] is Role.INPUTS
    assert skeleton.layout.gathering == {"model.layers.0.self_attn", "model.layers.1.self_attn"}


def test_class_without_a_plan_is_cut_by_names_of_linears(tmp_path: Path) -> None:
    skeleton = skeleton_of(tmp_path / "m", "HunYuanDenseV1ForCausalLM")
    assert getattr(skeleton.causal.config, "base_model_tp_plan", None) is None
    assert cuts(skeleton, "model.layers.0.mlp.")["down_proj"] is Cut.MLP_COLUMNS
    assert not skeleton.layout.why_whole


def test_norms_over_all_heads_are_why_a_model_stays_whole(tmp_path: Path) -> None:
    """Each rank would normalise by the mean of its own heads."""
    skeleton = skeleton_of(tmp_path / "m", "CohereForCausalLM", use_qk_norm=True)
    assert "q_norm" in skeleton.layout.why_whole


def test_windows_are_those_of_the_class(tmp_path: Path) -> None:
    """config.json need not name each layer's: the class has its pattern."""
    skeleton = skeleton_of(
        tmp_path / "m", "Cohere2ForCausalLM", sliding_window=9, num_hidden_layers=4
    )
    windows = [layer.attends.window for layer in skeleton.config.spec.layers]
    assert windows == [9, 9, 9, 0]
