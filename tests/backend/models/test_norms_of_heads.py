"""StableLM 2 12B as a GGUF file: each head's norm, which directories have one by one, in one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend.config.errors import ModelError
from tests.backend.models.family_cases import FamilyCase, TinyModel
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors
from tests.backend.models.late_cases import stablelm_metadata
from tests.backend.models.tiny_engine import engine_of, logits_of


class Stacks:
    """As StableLMModel of llama.cpp's converter has it."""

    def __init__(self) -> None:
        self._heads: dict[str, list[Tensor]] = {}

    def change(self, name: str, tensor: Tensor, config: object) -> NamedTensors:
        stem, norms, _ = name.partition(".norms.")
        if not norms:
            return [(name, tensor)]
        heads = self._heads.setdefault(stem, [])
        heads.append(tensor)
        count = 6 if stem.endswith("q_layernorm") else 3
        return [(f"{stem}.weight", torch.stack(heads))] if len(heads) == count else []


def test_norm_of_each_head_is_read_from_gguf_alone(tmp_path: Path) -> None:
    case = FamilyCase(
        "StableLmForCausalLM",
        {"hidden_size": 96, "use_parallel_residual": True, "qk_layernorm": True},
        twin=GGUFTwin("STABLELM", metadata=stablelm_metadata, change=Stacks().change),
    )
    tiny = TinyModel(case, tmp_path)
    got = logits_of(engine_of(tiny.twin), tiny.prompt)
    torch.testing.assert_close(got, tiny.logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="a GGUF file has one"):
        engine_of(tiny.path)
