"""Tiny models of gpt_oss whose experts are in MXFP4, written by the format's definition.

OCP Microscaling Formats 1.0: 32 numbers share a power of 2, and each is one of 16 (E2M1).
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.backend.models import family_cases
from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import write_twin

# Codes 0 to 7; 8 to 15 are the same below 0.
VALUES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
_STACKS = ("gate_up_proj", "down_proj")


def to_mxfp4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round [.., out, in] to codes [.., out, in / 32, 32] uint8 and exponents [.., out, in / 32].

    An exponent is that of the largest number, less 2, which is that of the largest value, 6.
    """
    groups = weight.contiguous().view(*weight.shape[:-1], -1, 32)
    largest = groups.abs().amax(-1).clamp(min=1e-30)
    exponents = largest.log2().floor() - 2
    scaled = groups / exponents.exp2()[..., None]
    codes = (scaled.abs()[..., None] - VALUES).abs().argmin(-1) + 8 * (scaled < 0)
    return codes.to(torch.uint8), (exponents + 127).to(torch.uint8)


def from_mxfp4(codes: Tensor, exponents: Tensor) -> Tensor:
    """The numbers of to_mxfp4(), [.., out, in] float32."""
    values = torch.cat((VALUES, -VALUES))[codes.long()]
    return (values * (exponents.float() - 127).exp2()[..., None]).flatten(-2)


class Mxfp4Model:
    """A case of gpt_oss, as a directory and as a GGUF file, its experts in MXFP4 in both.

    logits: of transformers, in float32, with what its own function makes of the directory's bits.
    """

    def __init__(self, case: FamilyCase, directory: Path, monkeypatch: Any) -> None:
        self.path, self.twin = directory / "model", directory / "twin.gguf"
        self._model = family_cases._build(case)
        self.stacks = self._round_experts()
        self._model.save_pretrained(self.path)
        self._write_blocks()
        self.prompt = [(7 * i * i + 11 * i + 5) % 93 + 3 for i in range(case.num_tokens)]
        self.logits = self.logits_of(self.prompt)
        assert case.twin
        with monkeypatch.context() as patch:
            patch.setattr(gguf, "GGUFWriter", BlockWriter)
            write_twin(self.twin, self._model, case.twin)

    def logits_of(self, token_ids: list[int]) -> Tensor:
        """Return transformers' logits after each token, [T, vocabulary]."""
        with torch.inference_mode():
            logits: Tensor = self._model(torch.tensor([token_ids]), use_cache=False).logits[0]
        return logits

    def _round_experts(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Round the model's experts; name -> blocks [E, out, in / 32, 16] and exponents."""
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors

        stacks = {}
        for name, parameter in self._model.named_parameters():
            if name.endswith(_STACKS):
                codes, exponents = to_mxfp4(parameter.detach().transpose(1, 2) * 4)
                blocks = codes[..., ::2] | codes[..., 1::2] << 4
                theirs = convert_moe_packed_tensors(blocks, exponents, dtype=torch.float32)
                assert torch.equal(theirs.transpose(1, 2), from_mxfp4(codes, exponents))
                parameter.data.copy_(theirs)
                stacks[name] = blocks, exponents
        return stacks

    def _write_blocks(self) -> None:
        """Put blocks in the place of the directory's floats, as OpenAI's have them."""
        path = self.path / "model.safetensors"
        tensors = load_file(path)
        for name, (blocks, exponents) in self.stacks.items():
            del tensors[name]
            tensors |= {f"{name}_blocks": blocks, f"{name}_scales": exponents}
        save_file(tensors, path, {"format": "pt"})
        config = self.path / "config.json"
        said = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
        config.write_text(
            json.dumps(json.loads(config.read_text()) | {"quantization_config": said})
        )


class BlockWriter(gguf.GGUFWriter):  # type: ignore[misc]  # its base is untyped
    """Writes stacks of experts in ggml's blocks of MXFP4: the exponent, then the first 16 numbers
    in low bits and the others in high ones."""

    def add_tensor(self, name: str, tensor: Any, **options: Any) -> None:
        if name.endswith("_exps.weight"):
            codes, exponents = to_mxfp4(torch.from_numpy(np.ascontiguousarray(tensor)))
            packed = codes[..., :16] | codes[..., 16:] << 4
            tensor = torch.cat((exponents[..., None], packed), -1).flatten(-2).numpy()
            options["raw_dtype"] = gguf.GGMLQuantizationType.MXFP4
        super().add_tensor(name, tensor, **options)
