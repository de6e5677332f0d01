"""A card that no machine has: tensors that only say they lie on it, and are strict about it.

PyTorch's fake tensors have shapes and devices and no numbers. Here models are built of them on
"cuda", and steps are run as on a GPU: what would wait for the device, or copy from the host, or
give a kernel of Triton's a tensor of the host, raises AssertionError. Nothing is computed.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from backend.config.cache_shapes import groups_of
from backend.config.dummy import MARK
from backend.config.load import load_config
from backend.config.states import has_states
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.decode_inputs import DecodeLayout
from backend.layers.compute_context import ComputeContext
from backend.linear.registry import create_method
from backend.linear.triton import kernel as linear_kernel
from backend.models.model import Model
from backend.models.registry import load_model
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.ops.triton.triton_ops import TritonOps
from backend.placement.decode_sizes import DecodeSize
from backend.placement.sharding import split_model
from backend.quant.kept_weights import Quantization
from backend.weights.checkpoint import open_checkpoint
from tests.backend.models.family_cases import REMOVED, SIZES, FamilyCase

CARD = torch.device("cuda", 0)
BLOCK_SIZE, NUM_BLOCKS, MAX_LEN, NUM_SLOTS = 16, 16, 128, 4


class FakeCard:
    """num_launched: Triton's kernels so far. captures: whether a step is captured now.

    variants: of each kernel, with its constants and the types of its arguments, those that Triton
    would compile: which pointers lie at multiples of 16 bytes, which integers are 1 or multiples of
    16, as far as the kernel lets it look.
    """

    def __init__(self) -> None:
        self.num_launched = 0
        self.variants: dict[tuple[object, ...], set[tuple[str, ...]]] = {}
        self.captures = self._is_strict = False

    @contextmanager
    def runs(self) -> Iterator[None]:
        """Have tensors be fake meanwhile, and kernels be launched on them."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            for owner, name, value in (
                (Tensor, "data_ptr", lambda tensor: 0),
                (Tensor, "pin_memory", _pinned),
                (torch.cuda, "is_current_stream_capturing", lambda: self.captures),
                (linear_kernel, "_multiprocessors", lambda device: 132),
                (JITFunction, "run", self._runs()),
                (InterpretedFunction, "run", self._runs()),
            ):
                stack.enter_context(patch.object(owner, name, value))
            stack.enter_context(_OwnPython(self))
            yield

    @contextmanager
    def is_strict(self) -> Iterator[None]:
        """Have nothing wait for the card meanwhile."""
        self._is_strict = True
        try:
            with _Strict():  # type: ignore[no-untyped-call]
                yield
        finally:
            self._is_strict = False

    @property
    def allows_reads(self) -> bool:
        """Whether the host may read now, as it does while a model is loaded."""
        return not self._is_strict

    def _runs(self) -> Callable[..., None]:
        """Return what is called in the place of a kernel's method."""

        def run(kernel: Any, *arguments: Any, grid: Any, warmup: bool = False, **more: Any) -> None:
            self._launch(arguments, grid, more)
            form, hints = variant_of(kernel, arguments, more)
            self.variants.setdefault(form, set()).add(hints)

        return run

    def _launch(self, arguments: Sequence[Any], grid: Any, more: Mapping[str, Any]) -> None:
        """Look at what a kernel is launched with."""
        for place, value in (*enumerate(arguments), *more.items()):
            if isinstance(value, Tensor):
                assert value.device == CARD, f"argument {place} of a kernel lies on {value.device}"
        sizes = grid({}) if callable(grid) else grid
        assert all(isinstance(size, int) and size > 0 for size in sizes), f"a grid of {sizes}"
        assert all(size <= 65535 for size in sizes[1:]), f"a grid of {sizes}"
        self.num_launched += 1


def variant_of(
    kernel: Any, arguments: Sequence[Any], more: Mapping[str, Any]
) -> tuple[tuple[object, ...], tuple[str, ...]]:
    """Return which form of a kernel a launch wants, and what Triton is told of its arguments."""
    told = kernel.kwargs if isinstance(kernel, InterpretedFunction) else vars(kernel)
    unread = told.get("do_not_specialize") or ()
    anywhere = told.get("do_not_specialize_on_alignment") or ()
    values = inspect.signature(kernel.fn).bind(
        *arguments, **{name: value for name, value in more.items() if name in kernel.arg_names}
    )
    form: list[object] = [kernel.fn]
    hints = []
    for name, parameter in inspect.signature(kernel.fn).parameters.items():
        value = values.arguments[name]
        if "constexpr" in str(parameter.annotation):
            form.append(value)
        elif isinstance(value, Tensor):
            form.append(value.dtype)
            if name not in anywhere:
                is_aligned = value.storage_offset() * value.element_size() % 16 == 0
                hints.append(f"{name}: {is_aligned}")
        elif isinstance(value, int):
            form.append(value.bit_length() > 31)
            if name not in unread:
                hints.append(f"{name}: {'1' if value == 1 else value % 16 == 0}")
    return tuple(form), tuple(hints)


def _pinned(tensor: Tensor) -> Tensor:
    """Return the same without its numbers, which fake tensors of one number would compute with."""
    return torch.empty(tensor.shape, dtype=tensor.dtype)


class _OwnPython(TorchFunctionMode):
    """Does without a guard of devices what PyTorch for CPUs does not do of fake tensors."""

    def __init__(self, card: FakeCard) -> None:
        super().__init__()
        self._card = card

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "contiguous":
            x = args[0]
            whole = torch.contiguous_format
            return x if x.is_contiguous() else torch.ops.aten.clone(x, memory_format=whole)
        if name == "copy_":
            return self._copy(args[0], args[1], **kwargs)
        if self._card.allows_reads and name in ("item", "numpy"):
            types_of = {torch.uint8: np.uint8, torch.int64: np.int64, torch.float32: np.float32}
            return 1.0 if name == "item" else np.zeros(args[0].shape, types_of[args[0].dtype])
        if name == "tensor" and torch.device(kwargs.get("device") or "cpu").type == "cuda":
            assert self._card.allows_reads, "a tensor on the device is made of the host's numbers"
        if name == "__getitem__":
            part, indices = _picked(*args)
            return torch.ops.aten.index.Tensor(part, indices) if indices else part
        if name == "__setitem__":
            self._set(*args)
            return None
        return func(*args, **kwargs)

    def _copy(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        is_free = self._card.allows_reads or target.device == source.device or source.ndim == 0
        assert is_free or non_blocking, "a copy between host and device waits"
        source.expand(target.shape)
        return target

    def _set(self, target: Tensor, key: Any, value: Any) -> None:
        part, indices = _picked(target, key)
        if not isinstance(value, Tensor):
            value = torch.full((), value, dtype=target.dtype, device=target.device)
        if indices:
            torch.ops.aten.index_put_(part, indices, value)
        else:
            self._copy(part, value)


def _picked(x: Tensor, key: Any) -> tuple[Tensor, list[Tensor | None]]:
    """Return what a key picks as a view, and which tensors then pick of it."""
    keys = key if isinstance(key, tuple) else (key,)
    num_dims = sum(each is not None and each is not Ellipsis for each in keys)
    at, indices, rest = 0, list[Tensor | None](), x.ndim - num_dims
    for each in keys:
        if each is Ellipsis:
            at += rest
        elif each is None:
            x, at = x.unsqueeze(at), at + 1
        elif isinstance(each, slice):
            x = torch.ops.aten.slice.Tensor(x, at, each.start, each.stop, each.step or 1)
            at += 1
        elif isinstance(each, int):
            x = x.select(at, each)
        else:
            indices += [None] * (at - len(indices))
            indices.append(each if isinstance(each, Tensor) else torch.tensor(each))
            at += 1
    return x, indices


class _Strict(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets nothing pass that mixes host and device, but for what upload() sends."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        made = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        # Numbers by themselves are arguments of a kernel.
        tensors = [each for each in given if each.ndim or len(given) == 1]
        kinds = {each.device.type for each in (*tensors, *made)}
        is_upload = kwargs.get("non_blocking", False) or any(each is True for each in args)
        name = func._schema.name
        assert len(kinds) < 2 or is_upload, f"{name} mixes tensors of the host and of the device"
        return out


def write_dummy(case: FamilyCase, directory: Path, **fields: Any) -> Path:
    """Write a case's config.json, whose weights are random ones. Returns the directory."""
    import transformers

    config_class = getattr(transformers, case.architecture).config_class
    config = config_class(**((case.fields if case.is_whole else SIZES | case.fields) | fields))
    config.architectures = [case.architecture]
    config.save_pretrained(directory)
    path = directory / "config.json"
    values = json.loads(path.read_text()) | {"dtype": "bfloat16"} | case.json
    path.write_text(json.dumps({name: v for name, v in values.items() if v is not REMOVED}))
    (directory / MARK).touch()
    return directory


class FakeModel:
    """A model on the card, whose steps run while it runs."""

    def __init__(
        self,
        path: Path,
        *,
        quantization: Quantization = "auto",
        tp: TensorParallel | None = None,
        kv_dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        tp, dtype = tp or TensorParallel(), torch.bfloat16
        config = load_config(path, "auto", "auto")
        method = create_method(quantization, "triton", dtype, CARD, "int8")
        context = ComputeContext(dtype, CARD, TritonOps(), method, tp)
        shard = split_model(config, tp.size)[tp.rank]
        self.has_states = has_states(config.spec.layers)
        self.has_encoder = config.encoder is not None
        self.num_vocab = shard.vocab.stop - shard.vocab.start
        self.model: Model = load_model(
            config, open_checkpoint(path, config), shard, context, MAX_LEN, lambda fraction: None
        )
        self.cache = KVCache(
            config,
            shard,
            groups=groups_of(config, MAX_LEN),
            num_blocks=NUM_BLOCKS,
            block_size=BLOCK_SIZE,
            dtype=kv_dtype,
            device=CARD,
            num_slots=NUM_SLOTS if self.has_states else 0,
        )

    def captured_batch(self, rows: int = 3) -> Batch:
        """Return the batch of a captured step."""
        layout = DecodeLayout(
            DecodeSize(rows, MAX_LEN), self.cache.num_groups, BLOCK_SIZE, self.has_encoder
        )
        words = torch.zeros(layout.num_words, dtype=torch.int32, device=CARD)
        ids = torch.zeros(rows, dtype=torch.int32, device=CARD)
        return layout.batch(words, ids, has_states=self.has_states)
