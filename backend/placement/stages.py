"""Which layers each stage of a group has, where layers are shared out (pipeline parallel).

A stage is the ranks that hold the same layers. Layers are cut by what the file has of each, in
bytes: stages then take about equally long, since a step reads each weight once. The first also
embeds, the last has the norm and the head. Every rank finds the same cuts, whatever its kernels
keep weights as. Pure arithmetic, no torch.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.spec import DecoderSpec
from backend.config.tensors import EMBEDDING, LAYER_PREFIX, TensorInfo, TensorKind

# What the first stage has besides its layers; all else that is no layer's is the last's.
_FIRST = (EMBEDDING, "model.embed_positions.weight", "model.project_in.weight")


@dataclass(frozen=True, slots=True)
class Stage:
    """One of a group's stages. cuts: the layers of each of them, all layers in order."""

    index: int
    cuts: tuple[range, ...]

    @property
    def size(self) -> int:
        """How many stages there are."""
        return len(self.cuts)

    @property
    def layers(self) -> range:
        return self.cuts[self.index]

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.index == len(self.cuts) - 1

    def has(self, name: str, *, is_tied: bool) -> bool:
        """Whether a tensor is this stage's. is_tied: the head is the embedding's table."""
        if self.size == 1:
            return True
        if name.startswith(LAYER_PREFIX):
            return layer_of(name) in self.layers
        if name in _FIRST:
            return self.is_first or (self.is_last and is_tied and name == EMBEDDING)
        return self.is_last

    def __str__(self) -> str:
        """Say in words what it has."""
        first, last = self.layers.start, self.layers.stop - 1
        layers = f"layer {first}" if first == last else f"layers {first} to {last}"
        parts = [*["the embedding"] * self.is_first, layers, *["the head"] * self.is_last]
        return f"stage {self.index}: {', '.join(parts)}"


def whole_model(config: ModelConfig) -> Stage:
    """Return the only stage of a group whose ranks have all layers."""
    return Stage(0, (range(config.num_layers),))


def layer_of(name: str) -> int:
    """Return which layer a tensor is of, whose name begins with LAYER_PREFIX."""
    return int(name.removeprefix(LAYER_PREFIX).partition(".")[0])


def kinds_by_layer(
    config: ModelConfig, kinds: Iterable[TensorKind]
) -> Iterable[tuple[TensorKind, tuple[int, ...]]]:
    """Yield each kind as it is of one layer, and the layers that it stands for; none of a tensor
    that is no layer's."""
    kinds = tuple(kinds)
    shown = {layer_of(name) for name, _, _ in kinds if name.startswith(LAYER_PREFIX)}
    layers = config.spec.layers
    first = {layers[index]: index for index in sorted(shown, reverse=True)}
    alike: dict[int, list[int]] = {index: [] for index in shown}
    for index, layer in enumerate(layers):
        alike[index if index in shown else first[layer]].append(index)
    for kind in kinds:
        if not kind.name.startswith(LAYER_PREFIX):
            yield kind, ()
            continue
        members = tuple(alike[layer_of(kind.name)])
        yield kind._replace(num_alike=kind.num_alike // len(members)), members


def stage_kinds(
    config: ModelConfig, kinds: Iterable[TensorKind], stage: Stage
) -> Iterable[TensorKind]:
    """Yield the tensors that a stage has, each with how many of its layers have one like it."""
    if stage.size == 1:
        yield from kinds
        return
    for kind, members in kinds_by_layer(config, kinds):
        if not members:
            if stage.has(kind.name, is_tied=config.tie_word_embeddings):
                yield kind
        elif count := sum(layer in stage.layers for layer in members):
            yield kind._replace(num_alike=kind.num_alike * count)


def check_stages(config: ModelConfig, pp: int) -> None:
    """Raise ModelError if a model cannot be cut into so many stages."""
    if pp == 1:
        return
    spec = config.spec
    if pp > config.num_layers:
        raise ModelError(
            f"--pp {pp} is more stages than {config.name} has layers: use 1 to {config.num_layers}"
        )
    if config.foreign is not None:
        why = "transformers' code runs it, in one piece"
    elif not isinstance(spec, DecoderSpec) or spec.encoder:
        why = "it has an encoder"
    elif config.pooling is not None:
        why = "it gives vectors or scores, no tokens"
    elif spec.per_layer or any(each.shares_kv_of is not None for each in config.attentions):
        why = "its layers share keys and values, or are told of tokens by a table of their own"
    else:
        return
    raise ModelError(
        f"--pp {pp}: {config.name} cannot be cut into stages: {why}\n"
        "leave --pp out; --tp shares it out by heads and columns"
    )


def cut_layers(config: ModelConfig, pp: int, sizes: "LayerSizes") -> tuple[range, ...]:
    """Cut a model's layers for pp stages so that the largest stage is as small as can be.

    Raises ModelError where it cannot be cut.
    """
    check_stages(config, pp)
    weights = list(sizes.layers)
    weights[0] += sizes.before
    weights[-1] += sizes.after
    ends = _ends(weights, pp)
    return tuple(range(*each) for each in itertools.pairwise([0, *ends]))


@dataclass(frozen=True, slots=True)
class LayerSizes:
    """Bytes that a file has of each layer; of what stands before the first, and after the last."""

    layers: Sequence[int]
    before: int
    after: int

    @classmethod
    def of(
        cls, config: ModelConfig, tensors: Iterable[tuple[str, TensorInfo, float]]
    ) -> "LayerSizes":
        """Add up. tensors: of each its name, what it is, and its bytes."""
        layers = [0.0] * config.num_layers
        before = after = 0.0
        for name, _, size in tensors:
            if name.startswith(LAYER_PREFIX):
                layers[layer_of(name)] += size
                continue
            if name in _FIRST:
                before += size
            if name not in _FIRST or (name == EMBEDDING and config.tie_word_embeddings):
                after += size
        return cls([round(each) for each in layers], round(before), round(after))


def _ends(weights: Sequence[int], count: int) -> list[int]:
    """Return where each of `count` runs of weights ends, none empty, the heaviest as light as can
    be; of equals the one whose first runs are shorter."""
    sums = [0, *itertools.accumulate(weights)]
    total = len(weights)
    # best[i]: the heaviest of so many runs over the weights from i on; where the first ends.
    best = [(sums[total] - sums[i], total) for i in range(total)]
    table = [best]
    for runs in range(2, count + 1):
        before, best = best, []
        for i in range(total - runs + 1):
            ends = range(i + 1, total - runs + 2)
            best.append(min((max(sums[end] - sums[i], before[end][0]), end) for end in ends))
        table.append(best)
    found, start = [], 0
    for best in reversed(table):
        start = best[start][1]
        found.append(start)
    return found
