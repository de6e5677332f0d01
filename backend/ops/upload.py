"""From the host to a device without waiting for it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(
    values: NDArray[np.int32] | Sequence[int] | Sequence[Sequence[int]], device: torch.device
) -> Tensor:
    """Return integers on the device, int32. On a CPU an array's own memory is what comes back.

    To a GPU they go through pinned memory, so the copy is one more thing on the current stream and
    the caller may change its own at once. PyTorch reuses that memory when the copy is over.
    """
    host = torch.from_numpy(np.asarray(values, np.int32))
    if device.type != "cuda":
        return host.to(device)
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError("a captured step takes integers from the host")
    return host.pin_memory().to(device, non_blocking=True)
