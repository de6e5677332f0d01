"""A decoder of any family: what its spec says, over the op table.

Written once: the same lines serve every device and every number of ranks.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.spec import DecoderSpec
from backend.config.tensors import EMBEDDING, HEAD
from backend.layers.compute_context import ComputeContext
from backend.layers.decoder_layer import DecoderLayer, LayerStep
from backend.layers.embedding import VocabParallelHead
from backend.layers.input_embedding import InputEmbedding
from backend.layers.loader import WeightLoader
from backend.layers.norm import NormLayer
from backend.layers.per_layer import LayerTail, PerLayerInputs
from backend.layers.rotary import RotaryEmbedding
from backend.layers.score_head import ScoreHead
from backend.layers.state_step import StateStep
from backend.models.step_inputs import AttentionKind, InputLayout, StepInputs
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.ops.recorded_steps import RecordedSteps, StepGiven
from backend.ops.topk import argmax
from backend.placement.sharding import Shard


class Decoder:
    """One rank's part. T tokens of a step.

    Where layers are shared out, only the first stage embeds, and only the last has the final norm
    and the head. Between stages the residual stream is one tensor, the sum of its two parts: that
    is what the next layer would have made of them.
    """

    def __init__(
        self,
        config: ModelConfig,
        loader: WeightLoader,
        shard: Shard,
        context: ComputeContext,
        max_len: int,
    ) -> None:
        assert isinstance(config.spec, DecoderSpec)
        self._spec = config.spec
        self._context, self._ops = context, context.ops
        self._stage = stage = shard.stage
        own = [(index, config.spec.layers[index]) for index in stage.layers]
        self._layers = {
            index: DecoderLayer(config, layer, loader.at(f"model.layers.{index}"), shard, context)
            for index, layer in own
        }
        # The layers behind these keep nothing of their own.
        keeps = [
            layer.state is not None or (layer.attention and layer.attention.shares_kv_of is None)
            for layer in config.spec.layers
        ]
        num_writers = max((n for n, own in enumerate(keeps, 1) if own), default=0)
        layers = stage.layers
        border = max(layers.start, num_writers) if stage.is_last else layers.stop
        self._writers, self._readers = range(layers.start, border), range(border, layers.stop)
        self._norm = (
            NormLayer(loader, "model.norm", config.spec.norm, context.ops)
            if config.spec.has_final_norm and stage.is_last
            else None
        )
        self._head = (
            VocabParallelHead(loader, EMBEDDING if config.tie_word_embeddings else HEAD)
            if config.has_head and stage.is_last
            else None
        )
        self._head_bias = (
            loader.take("lm_head.bias") if loader.has("lm_head.bias") and stage.is_last else None
        )
        scorer = config.spec.classifier if stage.is_last else None
        self._scorer = ScoreHead(loader, scorer, config.spec.norm, context.ops) if scorer else None
        tied = self._head if config.tie_word_embeddings and shard.size == 1 else None
        self._embedding = (
            InputEmbedding(config.spec, loader, tied, context.ops) if stage.is_first else None
        )
        self._project_out = (
            loader.pack("model.project_out.weight")
            if loader.has("model.project_out.weight") and stage.is_last
            else None
        )
        told = config.spec.per_layer
        self._per_layer = PerLayerInputs(config, told, loader, shard, context) if told else None
        self._tails = {
            index: LayerTail(config, layer, loader.at(f"model.layers.{index}"), context)
            for index, layer in own
        }
        self._kinds = [
            AttentionKind.of(config, layer.attention, shard) if layer.attention else None
            for layer in config.spec.layers
        ]
        kinds = [kind for index, kind in enumerate(self._kinds) if kind and index in layers]
        self._turns = {
            turn: RotaryEmbedding(*turn, max_len, context.dtype, context.device)
            for turn in dict.fromkeys(turn for kind in kinds for turn in kind.turns)
        }
        self._passes: WeakKeyDictionary[KVCache, _Passes] = WeakKeyDictionary()
        self.weight_bytes = loader.ledger.weight_bytes
        self.replicated_bytes = loader.ledger.replicated_bytes

    def forward(self, batch: Batch, kv_cache: KVCache) -> Tensor:
        assert self._embedding is not None, "the first stage embeds"
        x = self._embedding.forward(batch)  # [T, hidden]
        passes = self._passes_over(kv_cache)
        if passes.recorded and _are_decodes(batch):
            told = self._per_layer.forward(batch.input_ids, x) if self._per_layer else None
            inputs = passes.all.inputs(self._ops, self._turns, batch)
            tensors = [x, *inputs.tensors] if told is None else [x, told, *inputs.tensors]
            given = StepGiven(tensors, inputs.plans, batch.states)
            return passes.recorded.run(
                given, lambda: self._run_decodes(x, told, inputs, batch, kv_cache)
            )
        return self.forward_from(x, batch, kv_cache)

    def forward_from(self, x: Tensor, batch: Batch, kv_cache: KVCache) -> Tensor:
        """Run this stage's layers on the residual stream, [T, hidden].

        Return that stream for the next stage; of the last, what forward() does.
        """
        passes, readers = self._passes_over(kv_cache), self._readers
        told = self._per_layer.forward(batch.input_ids, x) if self._per_layer else None
        inputs = passes.writers.inputs(self._ops, self._turns, batch)
        wanted = batch.output_tokens
        x, delta = self._run(self._writers, (x, None), told, inputs, batch, kv_cache, wanted)
        if not self._stage.is_last:
            return x if delta is None else x + delta
        is_read_whole = len(batch.output_tokens) == len(batch.input_ids) == batch.num_decodes
        if readers and not is_read_whole and len(batch.output_tokens) <= len(batch.context_lens):
            # What is not read of these layers is nobody's: no layer keeps keys of it.
            read = batch.output_tokens
            batch = batch.alone(batch.output_list)
            wanted = batch.output_tokens
            x = x.index_select(0, read)
            delta, told = (None if t is None else t.index_select(0, read) for t in (delta, told))
        if readers and len(batch.input_ids):
            inputs = passes.readers.inputs(self._ops, self._turns, batch)
            x, delta = self._run(readers, (x, delta), told, inputs, batch, kv_cache, wanted)
        return self._end(x, delta)

    def _run_decodes(
        self, x: Tensor, told: Tensor | None, inputs: StepInputs, batch: Batch, kv_cache: KVCache
    ) -> Tensor:
        """Run all layers where every token is read. x: [T, hidden]."""
        layers = self._stage.layers
        return self._end(*self._run(layers, (x, None), told, inputs, batch, kv_cache, None))

    def _run(
        self,
        layers: range,
        stream: tuple[Tensor, Tensor | None],
        told: Tensor | None,
        inputs: StepInputs,
        batch: Batch,
        kv_cache: KVCache,
        wanted: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run some of the layers. stream: its two parts, [T, hidden]. wanted: the tokens that are
        read of the last one of all; None for all."""
        x, delta = stream
        for index in layers:
            read = wanted if index == len(self._spec.layers) - 1 else None
            attention = state = None
            if self._kinds[index] is not None:
                cache = None if self._spec.sees_ahead else kv_cache.layer(index)
                attention = inputs.of(index, cache, read)
            if states := kv_cache.states.layer(index):
                assert batch.states is not None, "the plan names no slots"
                state = StateStep(states, batch.states, read)
            step = LayerStep(attention, state, read)
            x, delta = self._layers[index].forward(x, delta, step)
            x, delta = self._tails[index].forward(
                x, delta, None if told is None else step.pick(told[:, index])
            )
        return x, delta

    def _end(self, x: Tensor, delta: Tensor | None) -> Tensor:
        """Return the hidden states of what the last layer leaves."""
        if self._norm:
            x = self._norm.forward(x, delta)[1]
        elif delta is not None:
            x = self._ops.add(x, delta)
        return x if self._project_out is None else self._project_out.apply(x)

    def _passes_over(self, kv_cache: KVCache) -> "_Passes":
        if (found := self._passes.get(kv_cache)) is None:
            is_whole = self._stage.size == 1 and not self._spec.sees_ahead
            writers, readers, own = (
                InputLayout(self._kinds, layers, kv_cache, self._context.dtype)
                for layers in (self._writers, self._readers, self._stage.layers)
            )
            recorded = RecordedSteps() if is_whole and self._context.records_decodes else None
            found = self._passes[kv_cache] = _Passes(writers, readers, own, recorded)
        return found

    def score(self, hidden: Tensor) -> Tensor:
        """[n, hidden] -> the classifier's logits, [n], float32."""
        assert self._scorer is not None, "only a model with a classifier scores"
        return self._scorer.forward(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        assert self._head is not None, "a model that only embeds has no logits"
        logits = self._head.forward(hidden)
        if self._head_bias is not None:
            logits += self._head_bias.float()
        if self._spec.logit_scale != 1.0:
            logits *= self._spec.logit_scale
        if cap := self._spec.logit_softcap:
            logits = logits.div_(cap).tanh_().mul_(cap)
        return logits

    def argmax(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if self._head_bias is not None:
            return argmax(self.logits(hidden))
        assert self._head is not None, "a model that only embeds has no logits"
        # A scale above 0 and a cap leave the largest where it is.
        values, places = self._head.argmax(hidden)
        if self._spec.logit_scale != 1.0:
            values = values * self._spec.logit_scale
        if cap := self._spec.logit_softcap:
            values = torch.tanh(values / cap) * cap
        return values, places


@dataclass(frozen=True, slots=True)
class _Passes:
    """What is known of steps over one cache: what layers share that keep something, those that do
    not, and all; and, where they can be recorded, those of decodes."""

    writers: InputLayout
    readers: InputLayout
    all: InputLayout
    recorded: RecordedSteps | None


def _are_decodes(batch: Batch) -> bool:
    """Whether a batch on the host is of single tokens, all of which are read in order."""
    count = batch.num_decodes
    return len(batch.output_tokens) == len(
        batch.input_ids
    ) == count and batch.output_tokens.tolist() == [*range(count)]
