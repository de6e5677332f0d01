"""Tiny random models of each family, written by transformers, and what it computes of them.

A module of cases is a table of name -> FamilyCase; test_families.py runs all of them.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.backend.models.gguf_twin import GGUFTwin, write_twin

# Shared by most: 6 query and 3 KV heads divide over two ranks unevenly and over three evenly.
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@dataclass(frozen=True, slots=True)
class FamilyCase:
    """A model that transformers can write.

    architecture: the class. fields: of its configuration, beside SIZES (or in their place, where
    is_whole). json: fields of config.json that replace what transformers wrote: older layouts of
    the same thing. num_tokens: of the prompt; above any window. twin: how llama.cpp's converter
    writes the model, None where it cannot. ranks: over how many the model is split.
    """

    architecture: str
    fields: dict[str, Any] = field(default_factory=dict)
    is_whole: bool = False
    json: dict[str, Any] = field(default_factory=dict)
    num_tokens: int = 40
    twin: GGUFTwin | None = None
    ranks: tuple[int, ...] = (2, 3)


class TinyModel:
    """A case's model on disk, and transformers' own of the same weights, in float32.

    logits: [num_tokens, vocabulary] of the prompt.
    """

    def __init__(self, case: FamilyCase, directory: Path) -> None:
        self.case = case
        self.path = directory / "model"
        self._model = _build(case)
        self._model.save_pretrained(self.path)
        if case.json:
            _change_json(self.path / "config.json", case.json)
        vocab_size = self._model.get_input_embeddings().num_embeddings
        self.prompt = [
            (7 * i * i + 11 * i + 5) % (vocab_size - 3) + 3 for i in range(case.num_tokens)
        ]
        self.logits = self.logits_of(self.prompt)
        self.twin = directory / "twin.gguf"
        if case.twin:
            write_twin(self.twin, self._model, case.twin)

    def logits_of(self, token_ids: list[int]) -> Tensor:
        """Return transformers' logits after each token, [T, vocabulary]."""
        with torch.inference_mode():
            logits: Tensor = self._model(torch.tensor([token_ids]), use_cache=False).logits[0]
        return logits

    def greedy(self, prompt: list[int], num_tokens: int) -> list[int]:
        """Return what a plain loop over transformers' forward answers."""
        token_ids = list(prompt)
        for _ in range(num_tokens):
            token_ids.append(int(self.logits_of(token_ids)[-1].argmax()))
        return token_ids[len(prompt) :]


def _build(case: FamilyCase) -> Any:
    import transformers

    model_class = getattr(transformers, case.architecture)
    fields = case.fields if case.is_whole else SIZES | case.fields
    config = model_class.config_class(**fields)
    # Eager attention alone has every option, such as soft caps.
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(0)  # some parameters keep what the class draws
        model = model_class(config).float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("expert_bias"):  # what says who is chosen, and is not trained
                buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                # What multiplies stands at 1, or at 0 where 1 is added to it; biases at 0.
                parameter.add_(0.1 * noise)
            else:
                scale = 0.3 if "embed" in name else parameter.shape[-1] ** -0.5
                parameter.copy_(scale * noise)
        for name, buffer in model.named_buffers():
            noise = torch.randn(buffer.shape, generator=generator)
            if name.endswith("layer_scalar"):
                buffer.copy_(1 + 0.3 * noise)
            elif name.endswith("e_score_correction_bias"):
                buffer.add_(0.1 * noise)
    return model


def _change_json(path: Path, changes: dict[str, Any]) -> None:
    import json

    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: v for name, v in values.items() if v is not REMOVED}))


# In FamilyCase.json: a field that older files do not have.
REMOVED: Any = object()
