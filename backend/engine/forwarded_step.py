"""What a forward pass leaves on the device for whoever draws from it."""

from typing import NamedTuple

from torch import Tensor


class ForwardedStep(NamedTuple):
    """N samples and P scored tokens of a step of T tokens, on the device, integers int32.

    hidden: [N + P, H]. rows, output_positions: [N], of the sampling state, in the output. last:
    [N], index into [T] of the token before the sample. input_ids, positions: [T], the tokens that
    were run, as they are and not as the plan names them, and where they stand in their sequences.
    """

    hidden: Tensor
    rows: Tensor
    output_positions: Tensor
    last: Tensor
    input_ids: Tensor
    positions: Tensor
