"""What `unisono top` can be told."""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.client_key import KEY_DESCRIPTION


class TopSettings(msgspec.Struct, frozen=True):
    """Which server is looked at, and how."""

    url: Annotated[str, Meta(min_length=1, description="the server")] = "http://127.0.0.1:8000"
    api_key: Annotated[str, Meta(description=f"{KEY_DESCRIPTION}; one of scope admin")] = ""
    interval: Annotated[float, Meta(ge=0.2, le=60, description="seconds between two looks")] = 1.0
    once: Annotated[bool, Meta(description="print one frame and exit")] = False
