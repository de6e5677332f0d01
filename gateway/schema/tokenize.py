"""POST /tokenize and /detokenize as types, in the shapes that vLLM gave them.

check() finds what one field alone cannot say. Must not know tokenizers or templates.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import invalid
from gateway.schema.messages import Documents, Messages, Tools
from gateway.schema.sampling import check_beside

# What says something about messages only.
OF_CONVERSATIONS = (
    "tools documents add_generation_prompt continue_final_message chat_template_kwargs "
    "chat_template"
).split()
# A context of a million tokens fits, with some to spare.
TokenIds = Annotated[list[int], Meta(max_length=2**21)]


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /tokenize: a prompt, or messages as for a chat.

    add_special_tokens: put around it what the model wants around a prompt; on by default for a
    prompt, off for messages, whose template does that. return_token_strs: tell how each token is
    spelled.
    """

    model: str | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    tools: Tools | None = None
    documents: Documents | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    chat_template: str | None = None

    def check(self) -> None:
        """Raise ApiError unless there is one thing to tokenize."""
        if (self.prompt is None) == (self.messages is None):
            message = "Give either 'prompt' or 'messages', and not both."
            param = "prompt" if self.messages is None else "messages"
            raise invalid(message, param, "missing_required_parameter")
        for name in OF_CONVERSATIONS:
            check_beside(name, getattr(self, name) or None, "'messages'", self.messages)


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Token ids of a text. max_model_len: how many the model takes, answer included."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /detokenize."""

    tokens: TokenIds
    model: str | None = None


class DetokenizedText(msgspec.Struct, frozen=True):
    """The text of token ids, special tokens included."""

    prompt: str
