"""Who multiplies by a weight: name -> "module:Class"."""

from importlib import import_module

import torch

from backend.linear.method import LinearMethod

METHODS = {
    "dense": "backend.linear.onednn:DenseMethod",
    "exact": "backend.linear.exact:ExactMethod",
    "grouped": "backend.linear.torch_weight_only:GroupedMethod",
    "int4": "backend.linear.torch_weight_only:Int4Method",
    "int8": "backend.linear.torch_weight_only:Int8Method",
    "native": "backend.linear.native:NativeMethod",
    "native_dense": "backend.linear.native:NativeDenseMethod",
    "native_int4": "backend.linear.native:NativeInt4Method",
    "native_int8": "backend.linear.native:NativeInt8Method",
}


def create_method(name: str, dtype: torch.dtype, device: torch.device) -> LinearMethod:
    """Import and make one of METHODS."""
    module, _, attribute = METHODS[name].partition(":")
    method: LinearMethod = getattr(import_module(module), attribute)(dtype, device)
    return method
