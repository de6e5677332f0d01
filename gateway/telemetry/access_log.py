"""One event an exchange: who asked for what, how it ended, how long it took, how many tokens.

Of a path without a route the path, of a refusal its code and field; at level debug also its words,
and who the client says it is. Neither prompts nor keys nor query strings are in it.
"""

import logging
import re

from gateway.telemetry.exchange import Exchange
from gateway.telemetry.logs import fields

logger = logging.getLogger("unisono.access")

# Machines ask for these every few seconds, browsers for a page's files by the dozen, so they are
# logged at level debug.
PROBES = frozenset({"/livez", "/readyz", "/health", "/metrics", "/page/{name}"})


# What has no route of ours is counted and logged under this name.
NO_ROUTE = "other"
MAX_CHARS = 200
_KEY = re.compile(r"sk-[\w-]+")


def log_exchange(exchange: Exchange) -> None:
    """Log an exchange that is over."""
    level = logging.DEBUG if exchange.route in PROBES else logging.INFO
    if not logger.isEnabledFor(level):
        return
    facts: dict[str, object] = {
        "request_id": exchange.request_id,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "duration_ms": round(1000 * (exchange.ended_s - exchange.started_s), 1),
    }
    if exchange.tenant:
        facts["key_id"] = exchange.tenant
    if (generated := exchange.generated) is not None:
        facts["prompt_tokens"] = generated.num_prompt_tokens
        facts["completion_tokens"] = generated.num_output_tokens
        facts["finished"] = ",".join(dict.fromkeys(generated.finish_reasons))
        facts |= {"error": generated.error} if generated.error else {}
    if exchange.route == NO_ROUTE:
        facts["path"] = _bounded(exchange.path)
    if (refusal := exchange.refusal) is not None:
        facts |= {"error": refusal.code} if refusal.code else {}
        facts |= {"param": _bounded(refusal.param)} if refusal.param else {}
    if exchange.ignored_fields:
        facts["ignored"] = _bounded(exchange.ignored_fields)
    if logger.isEnabledFor(logging.DEBUG):
        facts |= {"client": exchange.client, "user_agent": _bounded(exchange.user_agent)}
        facts |= {"reason": _bounded(refusal.message)} if refusal is not None else {}
    logger.log(level, "request", extra=fields(**facts))


def _bounded(text: str) -> str:
    """Shorten what a client sent, and take out what looks like a key."""
    text = _KEY.sub("sk-...", text)
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}..."
