"""What a model can do here, in the words that Ollama has for it, and some more of that kind.

Clients choose by them which models to offer for what. Called by endpoints/models.py.
"""

from typing import Literal

from gateway.requests.infill import infill_marks
from gateway.service import Service

Capability = Literal[
    "completion",
    "chat",
    "tools",
    "thinking",
    "insert",
    "structured_outputs",
    "embedding",
    "rerank",
]


def capabilities(service: Service) -> list[Capability]:
    """List what requests for a model may ask.

    chat: it has a template. tools, thinking: that template knows them. insert: completions may have
    a suffix. structured_outputs: answers can be held to a grammar.
    """
    if service.task == "embed":
        return ["embedding"]
    if service.task == "rerank":
        return ["rerank"]
    found: list[Capability] = ["completion"]
    if (templates := service.chat_templates) is not None:
        found.append("chat")
        if templates.supports_tools:
            found.append("tools")
        if templates.knows_thoughts:
            found.append("thinking")
    if not service.has_encoder and infill_marks(service.tokenizer) is not None:
        found.append("insert")
    if service.grammar_validator is not None:
        found.append("structured_outputs")
    return found
