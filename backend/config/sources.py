"""Where the tensors of a model lie in its files: our names -> theirs. No torch, opens nothing."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from backend.config.foreign import Foreign
from backend.config.model_config import ModelConfig
from backend.config.spec import DecoderSpec, DeltaNet
from backend.config.tensors import LAYER_PREFIX, TensorInfo, tensors_of

_LAYER = re.compile(r"(model|encoder)\.layers\.(\d+)\.(.+)\.(weight|bias)")
_EXPERT = re.compile(r"experts\.(\d+)\.")


class HeadOrder(NamedTuple):
    """How the rows of each head lie in a file, where they move on the way in.

    The kernels turn the first half of a head's numbers against the second. Of a head of `dim` the
    first `rotated` turn: as two halves, or side by side if they are interleaved.
    """

    dim: int
    rotated: int
    is_interleaved: bool


class RowGroups(NamedTuple):
    """Rows of several tensors that take turns in a file: of each `size` rows there, those from
    `start` to `end` are ours."""

    size: int
    start: int
    end: int


class Source(NamedTuple):
    """Where a tensor lies: in the file's tensor `name`.

    expert: of a stack of matrices, which. start: its first row there; step: from each of its rows
    to the next. is_transposed: the file has [in, out]. groups: which of the file's rows are ours,
    if they are not all that follow `start`. heads: how rows move within each head, after that.
    """

    name: str
    expert: int | None = None
    start: int = 0
    is_transposed: bool = False
    groups: RowGroups | None = None
    heads: HeadOrder | None = None
    step: int = 1


class Names(msgspec.Struct, frozen=True):
    """What files of one kind call the tensors of a family.

    prefixes: what stands before names, the first under which the file has its embedding. layer:
    what stands before names of a layer. top, parts: our name, without .weight or .bias and of a
    layer's the part behind its number -> theirs; several are tried in order. `{e}` stands for an
    expert. fused: their name -> ours, of which those a model has lie one below the other in it;
    where ours hold an `{e}`, theirs is a stack, one matrix an expert. interleaved: as fused, but
    rows of ours take turns. grouped: as interleaved, but those of a head take turns, or of a key
    head, of each. transposed: their names of matrices that lie [in, out]. ignored: pattern of
    tensors that follow from the configuration, or are for other uses; a match is left unread. Names
    are whole where they begin with "/", without prefix.
    encoder_layer, encoder_parts: as layer and parts, of the layers of an encoder that stands before
    the decoder.
    """

    prefixes: tuple[str, ...]
    layer: str
    top: dict[str, str | tuple[str, ...]]
    parts: dict[str, str | tuple[str, ...]]
    fused: dict[str, tuple[str, ...]] = {}
    transposed: frozenset[str] = frozenset()
    ignored: str = "(?!)"
    interleaved: dict[str, tuple[str, ...]] = {}
    encoder_layer: str = ""
    encoder_parts: dict[str, str | tuple[str, ...]] = {}
    grouped: dict[str, tuple[str, ...]] = {}

    def sources(
        self, config: ModelConfig, file_names: Collection[str]
    ) -> tuple[dict[str, Source], dict[str, str]]:
        """Return our name -> Source, and our name -> what the file should call it and has not."""
        infos = tensors_of(config)
        prefix = self._prefix(file_names)
        found: dict[str, Source] = {}
        missing: dict[str, str] = {}
        for name in infos:
            for candidate in self._candidates(name, infos, config):
                file_name = _present(_whole(prefix, candidate.name), file_names)
                if file_name is not None:
                    heads = _head_order(config, name)
                    found[name] = candidate._replace(name=file_name, heads=heads)
                    break
                missing.setdefault(name, _whole(prefix, candidate.name))
        return found, {name: theirs for name, theirs in missing.items() if name not in found}

    def find(self, stem: str, kind: str, file_names: Collection[str]) -> str | None:
        """Return what a file calls one of the model's own tensors; None if it has none."""
        prefix = self._prefix(file_names)
        for theirs in _alternatives(self.top.get(stem, stem)):
            if found := _present(f"{_whole(prefix, theirs)}.{kind}", file_names):
                return found
        return None

    def is_ignored(self, file_name: str, config: ModelConfig) -> bool:
        """Whether a tensor of a file may be left unread."""
        if re.fullmatch(self.ignored, file_name):
            return True
        drafts = config.spec.draft_layers if isinstance(config.spec, DecoderSpec) else 0
        more = range(config.num_layers, config.num_layers + drafts)
        return any(file_name.startswith(self.layer.format(i=index)) for index in more)

    def _prefix(self, file_names: Collection[str]) -> str:
        embeddings = _alternatives(self.top["model.embed_tokens"])
        for prefix in self.prefixes:
            if any(f"{prefix}{name}.weight" in file_names for name in embeddings):
                return prefix
        return self.prefixes[0]

    def _candidates(
        self, name: str, infos: Mapping[str, TensorInfo], config: ModelConfig
    ) -> Iterator[Source]:
        match = _LAYER.fullmatch(name)
        if match is None:
            stem, _, kind = name.rpartition(".")
            for theirs in _alternatives(self.top.get(stem, stem)):
                yield Source(f"{theirs}.{kind}", is_transposed=theirs in self.transposed)
            return
        stack, index_of_layer, part, kind = match.groups()
        ours_before = f"{stack}.layers.{index_of_layer}."
        layer = (self.encoder_layer if stack == "encoder" else self.layer).format(i=index_of_layer)
        expert = _EXPERT.search(part)
        index = int(expert[1]) if expert else None
        generic = _EXPERT.sub("experts.{e}.", part)
        for theirs, ours in self.grouped.items():
            if part in ours:
                rows = [infos[f"{ours_before}{each}.{kind}"].shape[0] for each in ours]
                groups = _row_groups(rows, ours.index(part), _num_groups(config, ours))
                one_turn = Source(f"{layer}{theirs}.{kind}", start=groups.start)
                is_one = groups.size == sum(rows)
                yield one_turn if is_one else one_turn._replace(start=0, groups=groups)
        parts = self.encoder_parts if stack == "encoder" else self.parts
        for theirs in _alternatives(parts.get(generic, generic)):
            yield Source(
                f"{layer}{theirs}.{kind}".replace("{e}", str(index)),
                is_transposed=theirs in self.transposed,
            )
        for theirs, ours in self.fused.items():
            if generic in ours:
                above = [o.format(e=index) for o in ours[: ours.index(generic)]]
                names = [f"{ours_before}{part}.{kind}" for part in above]
                start = sum(infos[name].shape[0] for name in names if name in infos)
                yield Source(
                    f"{layer}{theirs}.{kind}", index, start, is_transposed=theirs in self.transposed
                )
        for theirs, ours in self.interleaved.items():
            if generic in ours:
                yield Source(
                    f"{layer}{theirs}.{kind}",
                    index,
                    ours.index(generic),
                    is_transposed=theirs in self.transposed,
                    step=len(ours),
                )


def foreign_names(foreign: Foreign) -> Names:
    """Return the names of a model's tensors that have the files' own, but for two."""
    top: dict[str, str | tuple[str, ...]] = {
        "model.embed_tokens": foreign.embedding,
        "lm_head": foreign.head,
    }
    return Names(("",), LAYER_PREFIX + "{i}.", top, {}, ignored=foreign.ignored)


def _alternatives(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _whole(prefix: str, name: str) -> str:
    return name[1:] if name.startswith("/") else prefix + name


def _present(name: str, file_names: Collection[str]) -> str | None:
    """Return a name if the file has it, or as of a tensor that is no module's weight or bias, or as
    the first BERTs have it, which TensorFlow wrote."""
    other = name.removesuffix(".weight")
    if name.endswith(".bias"):
        stem = name.removesuffix(".bias")
        other = stem if stem.endswith("_bias") else f"{stem}_bias"
    if name.endswith("LayerNorm.weight"):
        other = f"{other}.gamma"
    elif name.endswith("LayerNorm.bias"):
        other = f"{name.removesuffix('.bias')}.beta"
    return next((n for n in (name, other) if n in file_names), None)


def _num_groups(config: ModelConfig, parts: Collection[str]) -> int:
    """Return how often the rows of neighbours take turns in one tensor: with keys among them, as
    often as there are heads of these."""
    if any(part.startswith("self_attn.") for part in parts):
        has_keys = "self_attn.k_proj" in parts
        return config.num_kv_heads if has_keys else config.num_heads
    return next(
        layer.state.num_key_heads
        for layer in config.spec.layers
        if isinstance(layer.state, DeltaNet)
    )


def _row_groups(rows: Sequence[int], place: int, count: int) -> RowGroups:
    """rows: of each of the tensors that take turns, of which ours is at `place`."""
    sizes = [num_rows // count for num_rows in rows]
    start = sum(sizes[:place])
    return RowGroups(sum(sizes), start, start + sizes[place])


def _head_order(config: ModelConfig, name: str) -> HeadOrder | None:
    match = _LAYER.fullmatch(name)
    if match is None or not re.match(r"self_attn\.[qk]_(proj|norm)", match[3]):
        return None
    encoder, index = config.encoder, int(match[2])
    layers = encoder.layers if encoder and match[1] == "encoder" else config.spec.layers
    attention = layers[index].attention
    if attention is None:
        return None
    rope, head_dim = attention.rope, config.head_dim_of(attention)
    if rope is None or attention.latent or (rope.dim == head_dim and not rope.is_interleaved):
        return None
    return HeadOrder(head_dim, rope.dim, rope.is_interleaved)
