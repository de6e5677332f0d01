"""What `unisono chat` and `unisono run` can be told beside a server's settings. Flags only."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from backend.wire.sampling import MaxTokens, Seed, Temperature
from gateway.client_key import KEY_DESCRIPTION

# Where the server of `unisono run` listens, and to whom: for nobody but the command itself.
OWN_ADDRESS: Mapping[str, object] = {
    "host": "127.0.0.1",
    "port": 0,
    "api_keys": "",
    "tls_cert": "",
    "tls_key": "",
}
_SAMPLING = ("max_tokens", "temperature", "seed")


class AskSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an answer is asked for; what is not given is left to the server."""

    system: Annotated[str, Meta(description="instructions, as the system message")] = ""
    max_tokens: Annotated[MaxTokens, Meta(description="tokens of an answer, at most")] = 0
    temperature: Annotated[
        Temperature, Meta(description="0 takes the most likely token each time")
    ] = 0.0
    seed: Annotated[Seed, Meta(description="the same seed draws the same tokens")] = 0


class ChatSettings(AskSettings, frozen=True, forbid_unknown_fields=True):
    """Whom to talk to, and how."""

    url: Annotated[str, Meta(description="an OpenAI-compatible server [http://127.0.0.1:8000]")] = (
        ""
    )
    model: Annotated[
        str,
        Meta(
            description="with --url a name that it serves [its first]; without --url the model to "
            "serve for this chat alone, as `unisono run` does"
        ),
    ] = ""
    api_key: Annotated[str, Meta(description=KEY_DESCRIPTION)] = ""


def sampling_of(settings: AskSettings, flags: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of requests that were given. flags: those that were, by name."""
    return {name: getattr(settings, name) for name in _SAMPLING if name in flags}
