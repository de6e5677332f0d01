"""One event an exchange: who asked for what, how it ended, how long it took, how many tokens.

Neither prompts nor keys nor query strings are in it.
"""

import logging
from typing import TYPE_CHECKING

from gateway.telemetry.logs import fields

if TYPE_CHECKING:
    from gateway.telemetry.observer import Exchange

logger = logging.getLogger("unisono.access")

# Asked every few seconds by machines: at level debug.
PROBES = frozenset({"/livez", "/readyz", "/health", "/metrics"})


def log_exchange(exchange: "Exchange") -> None:
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
        facts["tenant"] = exchange.tenant
    if exchange.generation is not None:
        usage = exchange.generation.usage()
        facts["prompt_tokens"] = usage.prompt_tokens
        facts["completion_tokens"] = usage.completion_tokens
        facts["finished"] = ",".join(dict.fromkeys(exchange.generation.outcomes()))
    logger.log(level, "request", extra=fields(**facts))
