"""What the endpoints are given: names, tokenizer, pool and limits, in one frozen object.

Built once by the worker before its first request, and handed to create_app(). Holds no state of its
own and knows nothing of HTTP; what changes while serving lives in the pool and in the body
budget.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from backend.config.pooling import Pooling
from gateway.model_facts import ModelFacts
from gateway.notations.served import ServedNotation
from gateway.pool.body_budget import BodyBudget
from gateway.sampling_defaults import SamplingDefaults
from gateway.security.origins import Origins
from gateway.telemetry.observer import Observer
from gateway.text.embedding_prompts import EmbeddingPrompts

if TYPE_CHECKING:
    from gateway.pool.replicas import ReplicaPool
    from gateway.sandbox.chat_templates import ChatTemplates
    from gateway.sandbox.grammar_validator import GrammarValidator
    from gateway.security.keyring import Keyring
    from gateway.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may ask of this process before it is refused.

    max_body_bytes: larger bodies get 413. max_json_depth: arrays and objects inside each other.
    max_inputs: texts to embed, or documents to rank.
    max_choices: sequences, that is best_of or n times the number of prompts.
    max_logprobs: log-probabilities, that is tokens times alternatives over all sequences.
    body_timeout_s: the whole body must have arrived by then, or 408.
    drain_timeout_s: how long an early answer waits for the rest of a body nobody will read.
    ping_interval_s: silence on a stream before a comment tells proxies it lives; 0 for never.
    send_timeout_s: a stream whose reader takes nothing for so long is given up.
    """

    max_body_bytes: int = 10 * 2**20
    max_json_depth: int = 64
    max_choices: int = 128
    max_inputs: int = 2048
    # Each takes about 100 bytes while it waits to be written: 50 MB.
    max_logprobs: int = 2**19
    body_timeout_s: float = 30.0
    drain_timeout_s: float = 2.0
    ping_interval_s: float = 15.0
    send_timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Service:
    """One served model: what it is called and where its requests go.

    model_names: every name a request may use; the first is the model's own.
    vocab_size: token ids of prompts are below it. created: seconds since the epoch.
    keyring: the keys that open it; None where everybody may come in.
    allow_anonymous: with a keyring, those who bring no key may come in, too.
    origins: which pages in browsers may call.
    has_encoder: an encoder reads prompts: answers do not continue them, and none is scored.
    strict: fields of requests that mean nothing here are refused instead of ignored.
    sampling_defaults: what the sampling fields of a request are where it leaves them out.
    pooling: what the model's hidden states become; None for models that generate text. width: of
    the vectors of one that embeds. has_segments: it is told which token is of which text of a pair.
    max_thought_tokens: of requests that say no other; 0 for no limit.
    notation: how the model writes calls of tools and thoughts. facts: what its files say of it.
    prompts: what an embedding model wants in front of texts, by use.
    chat_templates: turn messages into a prompt; None for models that were trained on none.
    grammar_validator: has grammars compiled; None where answers cannot be held to one.
    body_budget: the bytes that the bodies of all requests may take together.
    observer: notes what happens, for /metrics and the access log.
    system_fingerprint: changes when the same seed may give other text (weights, dtype, version).
    """

    model_names: tuple[str, ...]
    tokenizer: "Tokenizer"
    pool: "ReplicaPool"
    vocab_size: int
    created: int
    system_fingerprint: str = "fp_unisono"
    sampling_defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    observer: Observer = field(default_factory=Observer)
    limits: Limits = field(default_factory=Limits)
    body_budget: BodyBudget = field(default_factory=BodyBudget)
    has_encoder: bool = False
    strict: bool = False
    keyring: "Keyring | None" = None
    allow_anonymous: bool = False
    origins: Origins = field(default_factory=Origins)
    grammar_validator: "GrammarValidator | None" = None
    chat_templates: "ChatTemplates | None" = None
    pooling: Pooling | None = None
    width: int = 0
    has_segments: bool = False
    prompts: EmbeddingPrompts = field(default_factory=EmbeddingPrompts)
    max_thought_tokens: int = 0
    notation: ServedNotation = field(default_factory=ServedNotation)
    facts: ModelFacts = field(default_factory=ModelFacts)

    def group_of(self, model: str) -> str | None:
        """Return which groups a request means by its model: "" for those that answer where none is
        named, the name of others; None where nothing is called so.

        Ollama's clients put `:latest` behind a name.
        """
        if model in self.model_names or model.removesuffix(":latest") in self.model_names:
            return ""
        return model if model in self.pool.names else None

    @property
    def task(self) -> Literal["generate", "embed", "rerank"]:
        """What requests the model answers."""
        return self.pooling.task if self.pooling else "generate"
