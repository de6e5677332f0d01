"""What `unisono calibrate` can be told."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class CalibrateSettings(msgspec.Struct, frozen=True):
    """What to measure, and how to show it."""

    device: Annotated[Literal["cpu", "cuda"], Meta(description="what to measure")] = "cpu"
    kernels: Annotated[
        str, Meta(description="level of our kernels, as for serve (auto: the processor's best)")
    ] = "auto"
    json: Annotated[bool, Meta(description="print the profile as JSON instead of a table")] = False
