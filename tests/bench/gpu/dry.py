"""A card that is not there: the parts of the benchmark run on the host, in Triton's interpreter.

For one end: that a part, or a path of the product that only GPUs take, does not die of a slip when
a card is lent for half an hour. Runners launch and collect, decodes are captured and replayed,
sampling is the device's, linears are Triton's; only the queue that they go through is the host's,
and shapes are tiny. The times are of nothing.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from tests.backend.engine.host_queue import HostQueue

# The article's kind of model, as small as kernels take it.
SHAPE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
BATCHES, PROMPTS = (1, 2), (3,)
FP8 = {"quant_method": "fp8", "weight_block_size": [32, 32]}


def write_shape(directory: Path, **fields: Any) -> str:
    """Write the model's config.json; return its path. fields: that it has beside its shape."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "config.json"
    path.write_text(json.dumps(SHAPE | fields))
    return str(path)


@contextmanager
def played_card() -> Iterator[None]:
    """Have engines that are built on the CPU meanwhile take the ways of a GPU.

    The process must interpret Triton's kernels: TRITON_INTERPRET=1 in its environment.
    """
    from backend.linear import registry
    from backend.ops.triton.triton_ops import TritonOps

    on_cpu = {
        (weight_format, "cpu", level): name
        for (weight_format, device, level), name in registry.KERNELS.items()
        if (device, level) == ("cuda", "triton")
    }
    with ExitStack() as stack:
        for name, value in (
            ("backend.engine.engine.runs_ahead", lambda device: True),
            ("backend.engine.engine.measures_steps", lambda device, config: True),
            ("backend.engine.engine.taken_bytes", _taken_bytes),
            ("backend.engine.engine.CudaQueue", lambda device: HostQueue()),
            ("backend.engine.platform.select_level", lambda *_: "triton"),
            ("backend.engine.platform._select_ops", lambda *_: TritonOps()),
        ):
            stack.enter_context(patch(name, value))
        stack.enter_context(patch.dict(registry.KERNELS, on_cpu))
        yield


def _taken_bytes(run: Callable[[], object], device: torch.device) -> int:
    run()
    return 1 << 20
