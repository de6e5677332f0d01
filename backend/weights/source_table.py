"""Which tensor of a file each of ours is, as every kind of checkpoint knows it."""

from collections.abc import Collection
from math import prod

from backend.config.model_config import ModelConfig
from backend.config.sources import Names
from backend.config.tensors import tensors_of


class SourceTable:
    """The sources of a model's tensors among the tensors of its files.

    sources: by our names. left_over: the file's tensors that the model has no use for, and that do
    not follow from its configuration.
    """

    def __init__(self, config: ModelConfig, names: Names, file_names: Collection[str]) -> None:
        self._infos = tensors_of(config)
        self.sources, self._missing = names.sources(config, file_names)
        taken = {source.name for source in self.sources.values()}
        if config.tie_word_embeddings or not config.has_head:
            # The embedding a second time, or what makes text where only vectors are wanted.
            heads = (names.find("lm_head", kind, file_names) for kind in ("weight", "bias"))
            taken |= {head for head in heads if head}
        self.left_over = sorted(
            name for name in set(file_names) - taken if not names.is_ignored(name, config)
        )
        self._ends = self._find_ends()

    def names(self) -> frozenset[str]:
        return frozenset(self.sources)

    def file_name(self, name: str) -> str:
        """Return what the file calls a tensor, or should."""
        return self.sources[name].name if name in self.sources else self._missing.get(name, name)

    def shape_in(self, name: str, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a tensor of ours that lies in one of the file's shape."""
        source, expected = self.sources[name], self._infos[name].shape
        if not (whole and expected):
            return whole  # a number
        stacked, rows = self._ends[source.name]
        if source.expert is not None and whole[0] != stacked:
            return whole
        shape = whole if source.expert is None else whole[1:]
        if source.is_transposed and len(shape) == 2:
            shape = shape[::-1]
        if len(expected) == 1 and len(shape) == 2 and (1 in shape or prod(shape) == expected[0]):
            shape = (prod(shape),)  # a linear layer of one feature, or one number a row or group
        if len(expected) == 2 and len(shape) == 3 and shape[1] == 1:
            shape = (shape[0], shape[2])  # a convolution of each channel by itself
        # A part of it is ours, where all the parts together are the whole.
        is_part = len(shape) == len(expected) and shape[0] == rows
        return (expected[0], *shape[1:]) if is_part else shape

    def _find_ends(self) -> dict[str, tuple[int, int]]:
        """Return of each of the file's tensors how many matrices and rows its parts add up to."""
        ends: dict[str, tuple[int, int]] = {}
        for name, source in self.sources.items():
            stacked, rows = ends.get(source.name, (0, 0))
            size = (self._infos[name].shape or (0,))[0]  # a number has no rows
            if groups := source.groups:
                size = size // (groups.end - groups.start) * groups.size
            end = source.start + max(0, size - 1) * source.step + min(size, 1)
            ends[source.name] = max(stacked, (source.expert or 0) + 1), max(rows, end)
        return ends
