"""What steers a step on its way to the device."""

import numpy as np
import torch

from backend.ops.upload import upload

CPU = torch.device("cpu")


def test_lists_and_arrays_become_int32() -> None:
    for values in ([3, -1], np.array([3, -1], np.int32), [[3], [-1]], []):
        tensor = upload(values, CPU)
        assert tensor.dtype == torch.int32 and tensor.tolist() == np.array(values).tolist()
