"""From hidden states to what callers get of a text: a vector, or a score. Float32 throughout."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.config.errors import ModelError
from backend.config.hf_directory import open_shard
from backend.config.pooling import Dense, Pooling, PoolingMode

# [N, hidden] -> logits of the score, [N], float32, the same on every rank
Score = Callable[[Tensor], Tensor]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}


class Pooler:
    """What a Pooling says, filled with weights. Every rank has all of it."""

    def __init__(
        self, pooling: Pooling, folder: Path, device: torch.device, score: Score | None = None
    ) -> None:
        """folder: the model's. score: of models that rerank.

        Raises ModelError for a dense layer whose file is missing or has other tensors.
        """
        self._pooling = pooling
        self._dense = [DenseLayer(dense, folder, device) for dense in pooling.dense]
        self._score = score

    def pool(self, hidden: Tensor, starts: Sequence[int]) -> Tensor:
        """Return one row a sequence, [N, width] float32.

        hidden: [T, hidden]; sequence n owns rows starts[n] .. starts[n + 1]. One row of each where
        the pooling takes one token.
        """
        pooled = hidden
        if not self._pooling.takes_one_token:
            parts = [hidden[start:end].float() for start, end in pairwise(starts)]
            pooled = torch.stack(
                [torch.cat([_reduce(part, mode) for mode in self._pooling.modes]) for part in parts]
            )
        if self._score is not None:
            logits = self._score(pooled)
            return (logits if self._pooling.is_raw else torch.sigmoid(logits)).unsqueeze(1)
        pooled = pooled.float()
        for dense in self._dense:
            pooled = dense.forward(pooled)
        return F.normalize(pooled, dim=1) if self._pooling.is_normalized else pooled


class DenseLayer:
    """A linear layer behind the pooling and its activation."""

    def __init__(self, dense: Dense, folder: Path, device: torch.device) -> None:
        """Raises ModelError; see Pooler."""
        path = folder / dense.folder / "model.safetensors"
        if not path.exists():
            raise ModelError(f"{path}: is missing; only safetensors are read")
        self._activate = _ACTIVATIONS[dense.activation]
        shapes: dict[str, tuple[int, ...]] = {}
        shapes["linear.weight"] = (dense.out_features, dense.in_features)
        if dense.has_bias:
            shapes["linear.bias"] = (dense.out_features,)
        with open_shard(path, "pt") as shard:
            if set(shard.keys()) != set(shapes):
                raise ModelError(f"{path}: has {sorted(shard.keys())}, not {sorted(shapes)}")
            tensors = {name: shard.get_tensor(name).float().to(device) for name in shapes}
        for name, shape in shapes.items():
            if tensors[name].shape != shape:
                found = list(tensors[name].shape)
                raise ModelError(f"{path}: {name} has shape {found}, config.json says {shape}")
        self._weight, self._bias = tensors["linear.weight"], tensors.get("linear.bias")

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_features] -> [N, out_features]."""
        return self._activate(F.linear(x, self._weight, self._bias))


def _reduce(states: Tensor, mode: PoolingMode) -> Tensor:
    """Make one vector [hidden] of a sequence's states [t, hidden]."""
    match mode:
        case "cls":
            return states[0]
        case "lasttoken":
            return states[-1]
        case "max":
            return states.amax(0)
        case "mean":
            return states.mean(0)
        case "mean_sqrt_len_tokens":
            return states.sum(0) * float(len(states) ** -0.5)
        case "weightedmean":
            places = torch.arange(1, len(states) + 1, device=states.device).to(states.dtype)
            mean: Tensor = torch.mv(states.T, places) / places.sum()
            return mean
