"""Every operation of the API: what it is called, what it takes and what it answers.

Words and examples; the types say the rest. Read by openapi.py and docs_page.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.errors import ErrorBody
from gateway.schema.anthropic import CountTokensRequest, MessagesRequest
from gateway.schema.anthropic_answer import MESSAGE_EVENTS, AnthropicError, Message, TokenCount
from gateway.schema.chat import ChatRequest
from gateway.schema.chat_answer import ChatChunk, ChatCompletion
from gateway.schema.completions import Completion, CompletionRequest
from gateway.schema.embeddings import EmbeddingList, EmbeddingRequest
from gateway.schema.models import ModelCard, ModelList
from gateway.schema.ollama import (
    OllamaChatAnswer,
    OllamaChatRequest,
    OllamaError,
    OllamaGenerateAnswer,
    OllamaGenerateRequest,
    OllamaModels,
    OllamaRunningModels,
    OllamaShown,
    ShowRequest,
)
from gateway.schema.ollama_embed import (
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaVector,
    OllamaVectors,
)
from gateway.schema.rerank import RerankRequest, RerankResponse
from gateway.schema.responses import ResponsesRequest
from gateway.schema.responses_answer import InputTokens, ModelResponse, ResponsesEvent
from gateway.schema.takeoff import (
    TakeoffClassifyRequest,
    TakeoffDetokenizeRequest,
    TakeoffEmbedRequest,
    TakeoffError,
    TakeoffMessages,
    TakeoffPlainText,
    TakeoffReader,
    TakeoffRequest,
    TakeoffScores,
    TakeoffStatus,
    TakeoffTemplateRequest,
    TakeoffText,
    TakeoffTokenizeRequest,
    TakeoffTokens,
    TakeoffVectors,
)
from gateway.schema.tokenize import DetokenizedText, DetokenizeRequest, TokenizeRequest, Tokens


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    events: what a stream's `data:` lines hold; end: the last of them that is no JSON, if one is.
    error: the body of a refusal. statuses: those of refusals that are not OpenAI's, by OpenAI's.
    plain_text: the answer is no JSON. has_lines: a stream is lines of JSON, each a response or an
    error. streams_text: all of the answer is events whose data is the text. has_shape_errors: JSON
    of another form is refused with a status of its own.
    """

    method: str
    path: str
    summary: str
    description: str
    tag: str
    request: type[msgspec.Struct] | None = None
    response: type[msgspec.Struct] | None = None
    events: tuple[type[msgspec.Struct], ...] = ()
    example: str = ""
    end: str = "[DONE]"
    error: type[msgspec.Struct] = ErrorBody
    statuses: Mapping[str, str] = field(default_factory=dict)
    plain_text: bool = False
    has_lines: bool = False
    streams_text: bool = False
    has_shape_errors: bool = False

    @property
    def id(self) -> str:
        """A name for generated clients."""
        path = self.path if self.path != "/" else "root"
        return re.sub(r"\W+", "_", f"{self.method} {path}".lower()).strip("_")


_ANTHROPIC: dict[str, Any] = {"end": "", "error": AnthropicError, "statuses": {"503": "529"}}
_TAKEOFF: dict[str, Any] = {"error": TakeoffError, "has_shape_errors": True}

OPERATIONS = (
    Operation(
        "POST", "/v1/chat/completions", "Answer a conversation",
        "The messages go through the model's own chat template; special tokens spelled in them "
        "stay text. Fields of the older Completions API and of vLLM work here, too.",
        "Text", ChatRequest, ChatCompletion, (ChatChunk,),
        '{"model": "MODEL", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}',
    ),
    Operation(
        "POST", "/v1/completions", "Continue a text",
        "Takes one prompt or many; the choices of the first prompt come first.",
        "Text", CompletionRequest, Completion, (Completion,),
        '{"model": "MODEL", "prompt": "Once upon a time", "max_tokens": 32, "stream": true}',
    ),
    Operation(
        "POST", "/v1/messages", "Answer a conversation, as Anthropic has it",
        "Blocks of text, thoughts, calls and results of tools go through the model's own chat "
        "template. More max_tokens than there is room for is what fits.",
        "Text", MessagesRequest, Message, MESSAGE_EVENTS,
        '{"model": "MODEL", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}',
        **_ANTHROPIC,
    ),
    Operation(
        "POST", "/v1/messages/count_tokens", "Count the tokens of a conversation",
        "Of the prompt that a request to /v1/messages would have.",
        "Tokens", CountTokensRequest, TokenCount, (),
        '{"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}]}',
        **_ANTHROPIC,
    ),
    Operation(
        "POST", "/v1/responses", "Answer an input, as OpenAI's newer API has it",
        "Stateless: `input` holds all that was said, called and answered before. Tools are the "
        "client's functions and custom tools.",
        "Text", ResponsesRequest, ModelResponse, (ResponsesEvent,),
        '{"model": "MODEL", "input": "Why is the sky blue?"}',
        end="",
    ),
    Operation(
        "POST", "/v1/responses/input_tokens", "Count the tokens of an input",
        "Of the prompt that a request to /v1/responses would have.",
        "Tokens", ResponsesRequest, InputTokens, (),
        '{"model": "MODEL", "input": "Why is the sky blue?"}',
    ),
    Operation(
        "GET", "/v1/responses/{name}", "Look for an answer", "Always 404: no answer is stored.",
        "Text",
    ),
    Operation(
        "POST", "/api/chat", "Answer a conversation, as Ollama has it",
        "The messages go through the model's own chat template. Streamed, as lines of JSON, unless "
        "`stream` is false; without messages the answer only says that the model is there.",
        "Text", OllamaChatRequest, OllamaChatAnswer, (),
        '{"model": "MODEL", "messages": [{"role": "user", "content": "Hi"}], "stream": false}',
        error=OllamaError, has_lines=True,
    ),
    Operation(
        "POST", "/api/generate", "Answer a prompt, as Ollama has it",
        "The prompt is a user's message, unless `raw` is true or there is a `suffix`.",
        "Text", OllamaGenerateRequest, OllamaGenerateAnswer, (),
        '{"model": "MODEL", "prompt": "Why is the sky blue?", "stream": false}',
        error=OllamaError, has_lines=True,
    ),
    Operation(
        "GET", "/api/tags", "List the names of the model, as Ollama has it",
        "Sizes and formats of files are not known here.", "Models", None, OllamaModels,
        error=OllamaError,
    ),
    Operation(
        "POST", "/api/show", "Describe one name, as Ollama has it",
        "Its capabilities, and in `model_info` the length of its context.",
        "Models", ShowRequest, OllamaShown, (), '{"model": "MODEL"}', error=OllamaError,
    ),
    Operation(
        "GET", "/api/ps", "List the names of the model as loaded, as Ollama has it",
        "The model always stays.", "Models", None, OllamaRunningModels, error=OllamaError,
    ),
    Operation(
        "POST", "/api/embed", "Turn texts into vectors, as Ollama has it",
        "Of a model that is served to embed. A text that is too long is cut unless `truncate` is "
        "false.",
        "Vectors", OllamaEmbedRequest, OllamaVectors, (),
        '{"model": "MODEL", "input": ["The Seine is a river.", "Paris"]}', error=OllamaError,
    ),
    Operation(
        "POST", "/api/embeddings", "Turn a text into a vector, as Ollama had it",
        "The older form of `/api/embed`.",
        "Vectors", OllamaEmbeddingsRequest, OllamaVector, (),
        '{"model": "MODEL", "prompt": "Paris"}', error=OllamaError,
    ),
    Operation(
        "GET", "/api/version", "Which release of Ollama is this like?",
        "Its number, which clients compare with what they need.", "Health",
        error=OllamaError,
    ),
    Operation(
        "POST", "/generate", "Answer prompts, as Takeoff has it",
        "What is left out or null is Takeoff's default: the likeliest tokens, 128 of them at most.",
        "Text", TakeoffRequest, TakeoffText, (), '{"text": "List 3 things to do in London"}',
        **_TAKEOFF,
    ),
    Operation(
        "POST", "/generate_stream", "Answer prompts as a stream, as Takeoff has it",
        "Server-sent events whose data is the text. Of several prompts the event's `id` is the "
        "number of its prompt. With return_metadata a last event `metadata` has the token counts; "
        "an event `error` means that the answer broke off.",
        "Text", TakeoffRequest, None, (), '{"text": "List 3 things to do in London"}',
        streams_text=True, **_TAKEOFF,
    ),
    Operation(
        "POST", "/embed", "Turn texts into vectors, as Takeoff has it",
        "Of a model that is served to embed.",
        "Vectors", TakeoffEmbedRequest, TakeoffVectors, (), '{"text": ["The Seine is a river."]}',
        **_TAKEOFF,
    ),
    Operation(
        "POST", "/classify", "Score texts, as Takeoff has it",
        "Of a model that is served to rerank: a cross-encoder takes one text or a pair, a decoder "
        "pairs of a query and a document.",
        "Vectors", TakeoffClassifyRequest, TakeoffScores, (),
        '{"text": [["capital of France", "Paris"]]}',
        **_TAKEOFF,
    ),
    Operation(
        "GET", "/status", "List the readers that take work, as Takeoff has it",
        "A reader is a group, its id the group's number.", "Models", None, TakeoffStatus,
        error=TakeoffError,
    ),
    Operation(
        "GET", "/config", "Describe the first reader, as Takeoff has it", "", "Models", None,
        TakeoffReader, error=TakeoffError,
    ),
    Operation(
        "GET", "/config/{name}", "Describe a reader, as Takeoff has it",
        "By its id, or by the name of its group.", "Models", None, TakeoffReader,
        error=TakeoffError,
    ),
    Operation(
        "POST", "/tokenize/{name}", "List the tokens of a text, as Takeoff has it",
        "As the vocabulary of a reader's model has them.",
        "Tokens", TakeoffTokenizeRequest, TakeoffTokens, (), '{"text": "Hello, world"}',
        **_TAKEOFF,
    ),
    Operation(
        "POST", "/detokenize/{name}", "Turn tokens into text, as Takeoff has it",
        "Tokens as the vocabulary has them, or ids.",
        "Tokens", TakeoffDetokenizeRequest, TakeoffPlainText, (), '{"tokens": [19556, 28]}',
        **_TAKEOFF,
    ),
    Operation(
        "POST", "/chat_template/{name}", "Put conversations through the template, as in Takeoff",
        "Each becomes the text that the model reads.",
        "Tokens", TakeoffTemplateRequest, TakeoffMessages, (),
        '{"inputs": [[{"role": "user", "content": "Hi"}]], "add_generation_prompt": true}',
        **_TAKEOFF,
    ),
    Operation(
        "GET", "/healthz", "Is the process alive?", "The same as /livez.", "Health",
        error=TakeoffError,
    ),
    Operation(
        "POST", "/v1/embeddings", "Turn texts into vectors",
        "Of a model that is served to embed. A text that is too long is refused, unless "
        "truncate_prompt_tokens is given.",
        "Vectors", EmbeddingRequest, EmbeddingList, (),
        '{"model": "MODEL", "input": ["The Seine is a river.", "Paris"]}',
    ),
    Operation(
        "POST", "/v1/rerank", "Rank documents by a query",
        "Of a model that is served to rerank: a cross-encoder, or a decoder by the logits of yes "
        "and no. In the form of Jina's API.",
        "Vectors", RerankRequest, RerankResponse, (),
        '{"model": "MODEL", "query": "capital of France", "documents": ["Rome", "Paris"]}',
    ),
    Operation(
        "POST", "/rerank", "Rank documents by a query", "The same as /v1/rerank.",
        "Vectors", RerankRequest, RerankResponse, (),
    ),
    Operation(
        "POST", "/v2/rerank", "Rank documents by a query",
        "The same, as Cohere's newer clients ask: documents are not sent back unless "
        "return_documents is true.",
        "Vectors", RerankRequest, RerankResponse, (),
    ),
    Operation(
        "POST", "/tokenize", "Count and list tokens",
        "Of a plain prompt, or of messages as a chat would put them.",
        "Tokens", TokenizeRequest, Tokens, (), '{"prompt": "Hello, world"}',
    ),
    Operation(
        "POST", "/detokenize", "Turn token ids into text", "Special tokens are part of the text.",
        "Tokens", DetokenizeRequest, DetokenizedText, (), '{"tokens": [19556, 28]}',
    ),
    Operation(
        "GET", "/v1/models", "List the names of the model",
        "Each can be used as `model` in a request. With the header anthropic-version, in "
        "Anthropic's form.",
        "Models", None, ModelList,
    ),
    Operation(
        "GET", "/v1/models/{name}", "Describe one name", "404 if nothing is served under it.",
        "Models", None, ModelCard,
    ),
    Operation(
        "GET", "/", "Is there a server?", "Always 200, also to HEAD, which some clients ask. "
        "Who accepts text/html gets a page to try the model on.",
        "Health", plain_text=True,
    ),
    Operation(
        "GET", "/livez", "Is the process alive?", "200 as long as it can answer.", "Health"
    ),
    Operation(
        "GET", "/readyz", "Is new work taken?",
        "503 while the model loads, when no group makes progress, and while draining. "
        "/health answers the same.",
        "Health",
    ),
    Operation("GET", "/health", "Is new work taken?", "The same as /readyz.", "Health"),
    Operation("GET", "/version", "Which release is this?", "Its number.", "Health"),
    Operation(
        "GET", "/metrics", "Figures for Prometheus",
        "Of all workers, groups and processes, whichever worker answers.", "Health",
        plain_text=True,
    ),
    Operation("GET", "/openapi.json", "This description", "OpenAPI 3.1.", "Health"),
)  # fmt: skip

# The types whose fields have words in schema/field_words.py.
REQUESTS = (
    ResponsesRequest,
    ChatRequest,
    CompletionRequest,
    MessagesRequest,
    CountTokensRequest,
    OllamaChatRequest,
    OllamaGenerateRequest,
    ShowRequest,
    OllamaEmbedRequest,
    OllamaEmbeddingsRequest,
    TakeoffRequest,
    TakeoffEmbedRequest,
    TakeoffClassifyRequest,
    TakeoffTokenizeRequest,
    TakeoffDetokenizeRequest,
    TakeoffTemplateRequest,
    TokenizeRequest,
    EmbeddingRequest,
    RerankRequest,
)
