"""Reads a Llama's tensors out of GGUF files: names, row order and blocks turned into torch's.

Owns the mapping from llama.cpp's names to Hugging Face's, the order of rotary rows and the slicing
of quantised blocks. The header is `gguf_header`'s, the arithmetic of blocks the gguf library's.
"""

import re
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from backend.config.ggml_type import GGMLType
from backend.config.gguf_header import GGUFTensor, read_headers
from backend.config.model_config import ModelConfig
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat, format_of
from backend.weights.slices import ALL

_Bytes = npt.NDArray[np.uint8]
_T = TypeVar("_T", bound=np.generic)

_TOP_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_TOP_TENSOR = re.compile(r"(\w+)\.(weight|bias)")
# Read with the configuration (rope_freqs), or derived from it (attn_rot_embd, in old files).
_NOT_WEIGHTS = re.compile(r"rope_freqs\.weight|blk\.\d+\.attn_rot_embd\.weight")
_ROTARY = re.compile(r"model\.layers\.\d+\.self_attn\.[qk]_proj\.(weight|bias)")

# Torch views of the types that need no arithmetic, through the numpy type torch knows.
_PLAIN = {
    GGMLType.F32: (np.dtype(np.float32), torch.float32),
    GGMLType.F16: (np.dtype(np.float16), torch.float16),
    GGMLType.BF16: (np.dtype(np.int16), torch.bfloat16),
}

# Elements dequantised at a time: 4 MiB of float32. A [49152, 576] Q8_0 takes 40 ms so, 100 ms at
# once (one slow core), and the temporaries stay small however large the matrix is.
_CHUNK = 1 << 20


class GGUFCheckpoint:
    """A Checkpoint of one GGUF file or of a split one's parts, memory-mapped."""

    def __init__(self, path: Path, config: ModelConfig) -> None:
        self._head_dim = config.head_dim
        self._tensors: dict[str, tuple[GGUFTensor, _Bytes]] = {}
        for header in read_headers(path):
            data = np.memmap(header.path, np.uint8, mode="r")
            for tensor in header.tensors.values():
                if not _NOT_WEIGHTS.fullmatch(tensor.name):
                    self._tensors[hf_name(tensor.name)] = (tensor, data)

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name][0].shape

    def read(self, name: str, rows: slice = ALL, cols: slice = ALL) -> torch.Tensor:
        tensor, data = self._tensors[name]
        if len(tensor.shape) == 1:
            raw = data[tensor.offset : tensor.offset + tensor.num_bytes]
            return self._read_vector(name, raw, tensor, rows)
        return _decode(self._rows(name, rows), tensor, cols)

    def read_quantized(self, name: str, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        tensor, _ = self._tensors[name]
        weight_format = self.weight_format(name, cols)
        if weight_format is WeightFormat.DENSE:
            raise ValueError(f"{name}: columns {cols} of {tensor.qtype.name} are not whole blocks")
        start, stop, _ = cols.indices(tensor.shape[-1])
        size, size_bytes = weight_format.block_size, weight_format.block_bytes
        kept = slice(start // size * size_bytes, stop // size * size_bytes)
        blocks = np.ascontiguousarray(self._rows(name, rows)[:, kept])
        return QuantizedWeight(weight_format, blocks)

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        if name not in self._tensors:
            return WeightFormat.DENSE
        tensor, _ = self._tensors[name]
        weight_format = format_of(tensor.qtype.name)
        start, stop, _ = cols.indices(tensor.shape[-1])
        is_cut = start % weight_format.block_size or stop % weight_format.block_size
        return WeightFormat.DENSE if is_cut else weight_format

    def stored_type(self, name: str) -> str:
        return self._tensors[name][0].qtype.name

    def close(self) -> None:
        # The mappings go with their last view.
        self._tensors.clear()

    def _rows(self, name: str, rows: slice) -> _Bytes:
        """Return a matrix's rows as stored, [R, row bytes], rotary ones in torch's order."""
        tensor, data = self._tensors[name]
        raw = data[tensor.offset : tensor.offset + tensor.num_bytes]
        raw = raw.reshape(*tensor.shape[:-1], tensor.row_bytes)[rows]
        if _ROTARY.fullmatch(name):
            self._check_whole_heads(name, tensor, rows)
            raw = _to_half_split(raw, self._head_dim)
        return raw

    def _read_vector(self, name: str, raw: _Bytes, tensor: GGUFTensor, rows: slice) -> torch.Tensor:
        values = _decode(raw[None], tensor, rows)[0]  # [1, N] -> [N]
        if _ROTARY.fullmatch(name):
            self._check_whole_heads(name, tensor, rows)
            values = torch.from_numpy(_to_half_split(values.numpy(), self._head_dim))
        return values

    def _check_whole_heads(self, name: str, tensor: GGUFTensor, rows: slice) -> None:
        start, stop, _ = rows.indices(tensor.shape[0])
        if start % self._head_dim or stop % self._head_dim:
            raise ValueError(f"{name}: rows {start}:{stop} are not heads of {self._head_dim}")


def hf_name(name: str) -> str:
    """Return Hugging Face's name of a tensor that llama.cpp calls `name`, else `name` itself."""
    if (match := _LAYER_TENSOR.fullmatch(name)) and match[2] in _LAYER_NAMES:
        return f"model.layers.{int(match[1])}.{_LAYER_NAMES[match[2]]}.{match[3]}"
    if (match := _TOP_TENSOR.fullmatch(name)) and match[1] in _TOP_NAMES:
        return f"{_TOP_NAMES[match[1]]}.{match[2]}"
    return name


def _to_half_split(rows: npt.NDArray[_T], head_dim: int) -> npt.NDArray[_T]:
    """Undo llama.cpp's order of rotary rows.

    Its files hold the two halves of a head interleaved, pair by pair; rotate-half wants first half,
    second half. Whole rows move, so their bytes can stay quantised.
    """
    tail = rows.shape[1:]
    pairs = rows.reshape(-1, head_dim // 2, 2, *tail)  # [H*D, ...] -> [H, D/2, 2, ...]
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(-1, *tail)


def _decode(raw: _Bytes, tensor: GGUFTensor, cols: slice) -> torch.Tensor:
    """Turn rows of blocks into numbers. raw: [R, row bytes] -> [R, cols], a new tensor."""
    block_size, block_bytes = tensor.qtype.block_size, tensor.qtype.block_bytes
    start, stop, _ = cols.indices(tensor.shape[-1])
    stop = max(start, stop)
    # Only the blocks that cover the columns. Cuts at multiples of 32 waste nothing but in K-quants,
    # whose blocks hold 256.
    first, last = start // block_size, -(-stop // block_size)
    raw = raw[..., first * block_bytes : last * block_bytes]
    kept = slice(start - first * block_size, stop - first * block_size)
    if plain := _PLAIN.get(tensor.qtype):
        numpy_dtype, torch_dtype = plain
        return torch.from_numpy(raw.copy().view(numpy_dtype)).view(torch_dtype)
    out = torch.empty(*raw.shape[:-1], stop - start)
    target = out.numpy()
    step = max(1, _CHUNK // tensor.shape[-1])
    for row in range(0, len(raw), step):
        blocks = np.ascontiguousarray(raw[row : row + step])
        target[row : row + step] = dequantize(blocks, GGMLQuantizationType(tensor.qtype))[..., kept]
    return out
