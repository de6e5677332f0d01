"""Puts together what the endpoints of a worker are given, out of settings and the model's files.

Loads no weights. Called once by a worker before it serves.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backend.config.load import load_config
from gateway.layout import layout
from gateway.model_facts import facts_of
from gateway.notations.served import notation_of, serve_notation
from gateway.pool.body_budget import BodyBudget
from gateway.pool.listener import PoolListener
from gateway.pool.replicas import ReplicaPool
from gateway.sampling_defaults import SamplingDefaults, load_sampling_defaults
from gateway.sandbox.chat_templates import ChatTemplates
from gateway.sandbox.grammar_validator import GrammarValidator, GrammarVocabulary
from gateway.security.keyring import Keyring
from gateway.security.origins import Origins
from gateway.service import Limits, Service
from gateway.settings import ServerSettings, Settings
from gateway.telemetry.observer import Observer
from gateway.text.chat_templates import load_chat_templates
from gateway.text.embedding_prompts import EmbeddingPrompts, load_embedding_prompts
from gateway.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Tracing

logger = logging.getLogger(__name__)


def build_service(settings: Settings, listener_of: Callable[[Observer], PoolListener]) -> Service:
    """Put together what the endpoints are given. Raises ModelError and TokenizerError.

    listener_of: makes who is told of what happens in the pool; it is to tell the observer.
    """
    server, engine = settings.server, settings.engine
    path = Path(engine.model)
    config = load_config(path, engine.model_impl, engine.task)
    max_model_len = min(engine.max_model_len or config.max_model_len, config.max_model_len)
    sampling = load_sampling_defaults(
        path, server.generation_config, server.override_generation_config
    )
    tokenizer = Tokenizer.load(path, config.vocab_size)
    templates = load_chat_templates(path, server.chat_template)
    names = server.served_model_name or (config.name,)
    observer = Observer(access_log=server.access_log, tracing=_tracing(server, names[0]))
    service = Service(
        model_names=names,
        tokenizer=tokenizer,
        chat_templates=ChatTemplates.of(tokenizer, templates, server.default_chat_template_kwargs),
        pool=ReplicaPool(
            max_model_len,
            tokenizer.pieces,
            listener_of(observer),
            resume_seconds=server.resume_seconds,
            queue_seconds=server.queue_seconds,
            max_waiting=server.max_waiting,
        ),
        vocab_size=config.vocab_size,
        has_encoder=config.encoder is not None,
        created=int(time.time()),
        system_fingerprint=_fingerprint(path, settings, sampling.defaults, templates),
        sampling_defaults=sampling.defaults,
        limits=Limits(
            max_body_bytes=server.max_body_bytes,
            ping_interval_s=server.ping_seconds,
            send_timeout_s=server.send_timeout_s,
            body_timeout_s=server.body_timeout_s,
        ),
        body_budget=BodyBudget(server.max_bodies_bytes),
        keyring=Keyring.of(server),
        allow_anonymous=server.allow_anonymous,
        origins=Origins(server.cors_origins, server.allowed_hosts),
        strict=server.strict,
        pooling=config.pooling,
        width=config.pooling.width(config.hidden_size) if config.pooling else 0,
        has_segments=config.num_token_types > 1,
        prompts=load_embedding_prompts(path) if config.pooling else EmbeddingPrompts(),
        observer=observer,
        max_thought_tokens=server.thinking_token_budget,
        notation=serve_notation(
            notation_of(path, templates, server.tool_notation, server.reasoning_notation),
            tokenizer.special_token_ids,
        ),
        facts=facts_of(path, config, templates),
        grammar_validator=GrammarValidator(
            lambda: GrammarVocabulary(tokenizer.pieces(), tokenizer.eos_token_ids)
        ),
    )
    observer.watch(service.pool)
    return service


def warn_of_tokens_without_rows(service: Service) -> None:
    """Name the tokens of the tokenizer's files that the model cannot read."""
    if tokens := service.tokenizer.tokens_without_rows:
        more = f" and {len(tokens) - 8} more" if len(tokens) > 8 else ""
        logger.warning(
            "the tokenizer names tokens that the model has no embedding for (%d rows): %s%s;"
            " text that spells them is read as plain characters",
            service.vocab_size,
            ", ".join(map(repr, tokens[:8])),
            more,
        )


def _tracing(server: ServerSettings, model_name: str) -> "Tracing | None":
    if not server.otel_endpoint:
        return None
    # This comes with the extra `otel`; `serve` has made sure that it is there.
    from gateway.telemetry.tracing import Tracing, otlp_exporter

    return Tracing(otlp_exporter(server.otel_endpoint), model_name)


def _fingerprint(
    path: Path, settings: Settings, defaults: SamplingDefaults, templates: Mapping[str, str]
) -> str:
    """Name what decides a seeded answer: release, weights, arithmetic, its split, what requests
    leave out, templates."""
    stat = path.stat()
    facts = [metadata.version("unisono"), path.name, stat.st_size, int(stat.st_mtime)]
    facts += [settings.engine.dtype, settings.engine.exact]
    facts += [defaults, templates, settings.server.default_chat_template_kwargs]
    facts += sorted({place.engine.tp for place in layout(settings)})  # stages change no bit
    return f"fp_{hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:10]}"
