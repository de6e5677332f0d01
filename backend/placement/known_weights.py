"""What is known of a file's weights from its header, or, without the file, from config.json.

For `unisono plan`; a start asks the checkpoint that it opened. Reads no weight, loads no torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from backend.config.architectures import load_family
from backend.config.gguf_header import read_headers
from backend.config.model_config import ModelConfig
from backend.config.quantization import Quantization, WeightScheme
from backend.config.quantization_methods import read_quantization
from backend.config.tensors import TensorInfo, TensorKind, kinds_of
from backend.placement.footprint import StoredWeights
from backend.placement.sharding import ALL
from backend.quant.described import described_blocks, described_columns, described_scheme
from backend.quant.kept_weights import BlockColumns
from backend.quant.weight_format import WeightFormat, format_of, whole_blocks

# safetensors' names of what numbers are stored as.
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


class KnownWeights(StoredWeights, Protocol):
    """What is known of weights that nobody opened."""

    def kinds(self, config: ModelConfig) -> Sequence[TensorKind]:
        """Return the tensors of a model by what is stored alike."""
        ...


class HeaderWeights:
    """The weights of a GGUF file, or of a split one's parts, as its header has them."""

    def __init__(self, path: Path, config: ModelConfig) -> None:
        """Raises ModelError for a file that cannot be read."""
        self._tensors = {
            name: tensor for header in read_headers(path) for name, tensor in header.tensors.items()
        }
        names = load_family(config.family).gguf_names
        self._sources = names.sources(config, self._tensors)[0]

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        """Return how columns of a tensor are stored, see StoredWeights."""
        if name not in self._sources:
            return WeightFormat.DENSE
        tensor = self._tensors[self._sources[name].name]
        return whole_blocks(format_of(tensor.qtype.name), cols, tensor.shape[-1])

    def stored_type(self, name: str) -> str:
        """Return what the file calls the type of a tensor."""
        return self._tensors[self._sources[name].name].qtype.name

    def block_columns(self, name: str, cols: slice = ALL) -> BlockColumns:
        """Return what is known of columns: none share a scale but those of a block."""
        return BlockColumns()

    def kinds(self, config: ModelConfig) -> Sequence[TensorKind]:
        """Return the tensors: a layer's experts are one of the file's."""
        return list(kinds_of(config))


class DescribedWeights:
    """The weights of a directory as its config.json describes them.

    All linears between embedding and head are taken to be quantised as it says, and where it has
    several schemes, by the last. Of groups with zero points none is taken to do without. Knows the
    tensors that kinds() names.
    """

    def __init__(self, fields: dict[str, Any], config: ModelConfig) -> None:
        """fields: of config.json. Raises ModelError for a method that is not served."""
        self._kinds = list(kinds_of(config, alike_layers=True))
        self._infos: dict[str, TensorInfo] = {kind.name: kind.info for kind in self._kinds}
        self._quantization: Quantization | None = read_quantization(fields)
        self._dtype = _DTYPES.get(config.stored_dtype, "BF16")

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        """Return how columns of a tensor are stored, see StoredWeights."""
        scheme = self._scheme(name)
        if scheme is None:
            return WeightFormat.DENSE
        k = self._infos[name].shape[1]
        return whole_blocks(described_blocks(scheme, k), cols, k)

    def stored_type(self, name: str) -> str:
        """Return what the tensor is stored as, in safetensors' words or the scheme's."""
        scheme = self._scheme(name)
        return scheme.name if scheme else self._dtype

    def block_columns(self, name: str, cols: slice = ALL) -> BlockColumns:
        """Return what is known of columns; of those in any order how many there will be."""
        scheme = self._scheme(name)
        return (
            described_columns(scheme, self._infos[name].shape[1], cols)
            if scheme
            else BlockColumns()
        )

    def kinds(self, config: ModelConfig) -> Sequence[TensorKind]:
        """Return the tensors: layers and experts that are alike are stored alike."""
        return self._kinds

    def _scheme(self, name: str) -> WeightScheme | None:
        return described_scheme(self._quantization, name, self._infos[name])
