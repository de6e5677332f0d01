"""One rank's part of softmax and of its inverse, each row by itself: the same bits in any batch.

A row's masses exp(logit / temperature) are summed by chunk, in one order; a draw finds first a
chunk in their cumulative sum, then a token in it. The sums are the C extension's, or PyTorch's
where it is absent. Called by the sampler.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from backend.native import kernels
from backend.native.calls import ExpSums

# Smaller chunks have more sums to write and add, larger ones more masses to recompute for a draw.
CHUNK = 256
_LOG2_E = 1 / np.log(2)

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


class CumulativeProbs:
    """The masses of N rows of logits by chunk. The logits must not change while it is used.

    logsumexp: [N], of logit / temperature; -inf for a row without tokens, NaN for one with NaN.
    """

    def __init__(self, logits: Tensor, rows: Ids, temperature: Floats) -> None:
        """logits: [M, tokens] float32, contiguous. rows, temperature (at least 1e-30): [N]."""
        self._logits = logits
        self._rows = rows
        self._temperature = temperature
        is_native = kernels is not None and logits.device.type == "cpu"
        sums = _native_sums if is_native else _torch_sums
        self._peaks, chunks = sums(logits, rows, temperature)
        self._cumulative = np.cumsum(chunks, axis=1, dtype=np.float64)  # [N, chunks]
        with np.errstate(divide="ignore"):
            self.logsumexp: Floats = self._peaks / temperature + np.log(self._cumulative[:, -1])

    def invert(self, which: Ids, fractions: Floats) -> Ids:
        """Return the tokens at which fractions of the mass fall.

        which: [M], places among the N rows, none without tokens or with NaN. fractions: [M], in
        [0, 1).
        """
        chunks, fractions = _find(self._cumulative[which], fractions)
        ids = chunks[:, None] * CHUNK + np.arange(CHUNK)  # [M, CHUNK]
        is_token = ids < self._logits.shape[1]
        places = self._rows[which, None], np.where(is_token, ids, 0)
        index = tuple(torch.from_numpy(each).to(self._logits.device) for each in places)
        logits = self._logits[index].double().cpu().numpy()
        masses = np.exp((logits - self._peaks[which, None]) / self._temperature[which, None])
        inside, _ = _find(np.cumsum(np.where(is_token, masses, 0), axis=1), fractions)
        found: Ids = chunks * CHUNK + inside
        return found


def _native_sums(
    logits: Tensor, rows: Ids, temperature: Floats
) -> tuple[Floats, NDArray[np.float32]]:
    assert logits.is_contiguous()
    width = logits.shape[1]
    scales = (_LOG2_E / temperature).astype(np.float32)
    peaks = np.empty(len(rows), np.float32)
    sums = np.empty((len(rows), -(-width // CHUNK)), np.float32)
    kernels.exp_sums(
        ExpSums(
            logits=logits.data_ptr(),
            width=width,
            rows=rows.ctypes.data,
            num_rows=len(rows),
            scales=scales.ctypes.data,
            chunk=CHUNK,
            peaks=peaks.ctypes.data,
            sums=sums.ctypes.data,
        )
    )
    return peaks.astype(np.float64), sums


def _torch_sums(
    logits: Tensor, rows: Ids, temperature: Floats
) -> tuple[Floats, NDArray[np.float32]]:
    device = logits.device
    scaled = logits[torch.from_numpy(rows).to(device)]
    # Finite in a row without tokens: its mass is 0 then, and not NaN.
    peaks = scaled.amax(-1).clamp_(min=torch.finfo(scaled.dtype).min)
    scaled.sub_(peaks[:, None]).div_(torch.from_numpy(temperature).to(scaled)[:, None])
    masses = F.pad(_exp(scaled), (0, -logits.shape[1] % CHUNK))
    sums = masses.view(len(rows), -1, CHUNK).sum(-1)
    return peaks.double().cpu().numpy(), sums.cpu().numpy()


def _exp(x: Tensor) -> Tensor:
    """Exponentiate in place. PyTorch's own gives other last bits at the ends of a CPU's threads'
    shares, which depend on how many rows there are."""
    if x.device.type != "cpu":
        return x.exp_()
    values = x.numpy()
    np.exp(values, out=values)
    return x


def _find(cumulative: Floats, fractions: Floats) -> tuple[Ids, Floats]:
    """Invert [M, n] masses at fractions [M]: the piece each falls in, how far into it in [0, 1)."""
    rows = np.arange(len(cumulative))
    totals = cumulative[:, -1]
    # The last piece that has any mass takes what rounding puts at the total.
    last = (cumulative < totals[:, None]).sum(axis=1)
    targets = fractions * totals
    pieces = np.minimum((cumulative <= targets[:, None]).sum(axis=1), last)
    starts = np.where(pieces > 0, cumulative[rows, pieces - 1], 0.0)
    shares = (targets - starts) / (cumulative[rows, pieces] - starts)
    return pieces, np.clip(shares, 0, np.nextafter(1.0, 0.0))
