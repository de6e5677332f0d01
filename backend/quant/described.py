"""How the weights of a directory are stored that has a config.json alone. No torch.

All linears between embedding and head are taken to be quantised as it says, and where it has
several schemes, by the last. Of groups with zero points none is taken to do without.
"""

from math import gcd

from backend.config.quantization import Quantization, WeightScheme
from backend.config.tensors import EMBEDDING, HEAD, TensorInfo
from backend.quant.kept_weights import BlockColumns
from backend.quant.weight_format import WeightFormat


def described_scheme(
    quantization: Quantization | None, name: str, info: TensorInfo
) -> WeightScheme | None:
    """Return how a tensor is quantised; None where it is not."""
    is_linear = len(info.shape) == 2 and not info.is_plain and name not in (EMBEDDING, HEAD)
    if quantization is None or not is_linear or name.endswith("router.weight"):
        return None
    scheme = quantization.groups[-1].scheme
    return scheme if info.expert is not None or scheme.layout != "mxfp4" else None


def described_blocks(scheme: WeightScheme, k: int) -> WeightFormat:
    """Return the blocks that values of a scheme become at load, as backend/README.md has them."""
    if scheme.layout == "mxfp4":
        return WeightFormat.MXFP4
    size = scheme.scale_block[1] or k
    if size % WeightFormat.Q4_0.block_size and size != k:
        return WeightFormat.DENSE
    if scheme.is_float:
        return WeightFormat.FP8
    if scheme.bits == 8 or scheme.layout == "plain":
        return WeightFormat.Q8_0 if scheme.is_symmetric else WeightFormat.Q8_MINS
    return WeightFormat.Q4_0 if scheme.is_symmetric else WeightFormat.Q4_1


def described_columns(scheme: WeightScheme, k: int, cols: slice) -> BlockColumns:
    """Return what is known of columns of a matrix of k in blocks.

    Of those in any order a rank is taken to have its share of every group, which fills its last
    block by half.
    """
    size = scheme.scale_block[1] or k
    start, stop, _ = cols.indices(k)
    if size >= k:
        return BlockColumns(size)
    if not scheme.is_any_order:
        return BlockColumns(gcd(size, start))
    if stop - start == k:
        return BlockColumns(size, k)
    block = WeightFormat.Q4_0.block_size
    num_groups = -(-k // size)
    ordered = stop - start + num_groups * block // 2
    return BlockColumns(block, ordered + -ordered % block)
