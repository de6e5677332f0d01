"""Serves a model by transformers' modelling code, with our tables, linears, attention and head.

Owns what stands in the class's modules: packed linears by its plan, tables of tokens, its other
parameters as they are; and what a step is told. What a class does to hidden states and logits
around its head is its own forward's: it runs with the hidden states in place of the decoder, and
with our head in place of its own, so no scale or cap of it can be missed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.tensors import EMBEDDING, HEAD
from backend.layers.compute_context import ComputeContext
from backend.layers.embedding import VocabParallelHead
from backend.layers.loader import WeightLoader
from backend.models.foreign_attention import ForeignStep
from backend.models.foreign_layout import HEAD_BIAS
from backend.models.foreign_modules import ModuleFiller, replace_module
from backend.models.foreign_trial import check_batching
from backend.models.transformers_backend import Skeleton
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.ops.topk import argmax
from backend.placement.sharding import Shard


class ForeignModel:
    """One rank's part. T tokens of a step."""

    def __init__(
        self,
        skeleton: Skeleton,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
    ) -> None:
        config, layout = skeleton.config, skeleton.layout
        who = f"transformers' {type(skeleton.causal).__name__}"
        if shard.size > 1 and layout.why_whole:
            raise ModelError(
                f"--tp {shard.size}: {who} is not cut here: {layout.why_whole}; --tp 1"
            )
        self._who = who
        self._causal = skeleton.causal
        self._causal.config.dtype = context.dtype
        num_layers = sum(layer.attention is not None for layer in config.spec.layers)
        self._step = ForeignStep(context.ops, shard.num_heads, num_layers, context.dtype, who)
        self._is_tried = False
        self._hidden: Tensor | None = None
        self._filler = ModuleFiller(skeleton, loader, shard, context)
        self._head = VocabParallelHead(loader, EMBEDDING if config.tie_word_embeddings else HEAD)
        bias = loader.take(HEAD_BIAS).float() if loader.has(HEAD_BIAS) else None
        tied = self._head if config.tie_word_embeddings and shard.size == 1 else None
        self._filler.fill(self._step, tied)
        base_name = layout.base
        self._base = self._causal.get_submodule(base_name)
        self._stub = HeadInput()
        setattr(self._causal, base_name, self._stub)
        self._output = HeadOutput(self._head, bias)
        replace_module(self._causal, layout.head, self._output)
        self._is_plain_head = bias is None and self._leaves_logits_alone(config)
        with torch.inference_mode():
            check_batching(self, config, shard, context.dtype, context.device, who)
        self._is_tried = True
        self.weight_bytes = loader.ledger.weight_bytes
        self.replicated_bytes = loader.ledger.replicated_bytes

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        self._step.begin(batch, kv_cache)
        with self._explained():
            hidden = self._base(
                input_ids=batch.input_ids[None],
                position_ids=batch.positions[None].long(),
                use_cache=False,
            ).last_hidden_state[0]
            self._step.end()
        wanted: Tensor = hidden.index_select(0, batch.output_tokens)
        return wanted

    def logits(self, hidden: Tensor) -> Tensor:
        self._stub.hidden = hidden[None]
        with self._explained():
            ids = hidden.new_zeros(1, len(hidden), dtype=torch.long)  # nobody looks at them
            logits: Tensor = self._causal(input_ids=ids, use_cache=False).logits[0]
        self._stub.hidden = None
        return logits.float()

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if self._is_plain_head:
            return self._head.argmax(hidden)
        return argmax(self.logits(hidden))

    def _leaves_logits_alone(self, config: ModelConfig) -> bool:
        """Whether the class's forward hands hidden states to its head, and logits on, as they are.

        Tried with numbers that any scale or cap would change.
        """
        hidden = torch.linspace(-50, 50, 2 * config.hidden_size).view(2, -1)
        logits = torch.linspace(-100, 100, 64).view(2, -1)
        self._output.told = logits[None]
        found = self.logits(hidden)
        seen, self._output.told, self._output.seen = self._output.seen, None, None
        return (
            seen is not None
            and torch.equal(seen[0], hidden)
            and found.shape == logits.shape
            and torch.equal(found, logits)
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what their code raises in its first step into words for the operator."""
        if self._is_tried:
            yield
            return
        try:
            yield
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"{self._who} fails with our attention and linears in its place: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n"
                "try --tp 1, or a GGUF file of the model"
            ) from error


class HeadInput(nn.Module):
    """Stands where the decoder was when the class's forward makes logits of hidden states."""

    hidden: Tensor | None = None

    @property
    def decoder(self) -> "HeadInput":
        """Itself: some classes call the decoder within their decoder."""
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return _Outputs(last_hidden_state=self.hidden)


class _Outputs(SimpleNamespace):
    """What decoders return: the last hidden state, and nothing else."""

    def __getitem__(self, index: int) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


class HeadOutput(nn.Module):
    """Our head: logits of this rank's tokens, float32. told: what to say instead, in a trial."""

    def __init__(self, head: VocabParallelHead, bias: Tensor | None) -> None:
        super().__init__()
        self._head = head
        self._bias = bias
        self.told: Tensor | None = None
        self.seen: Tensor | None = None
        self.weight = torch.empty(0)

    def forward(self, hidden: Tensor) -> Tensor:
        """[1, N, hidden] -> [1, N, this rank's tokens]."""
        if self.told is not None:
            self.seen = hidden
            return self.told
        logits = self._head.forward(hidden[0])
        return (logits if self._bias is None else logits + self._bias)[None]
