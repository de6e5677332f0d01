"""One event an exchange: who asked for what, how it ended, how long it took, how many tokens.

Neither prompts nor keys nor query strings are in it.
"""

import logging

from gateway.telemetry.exchange import Exchange
from gateway.telemetry.logs import fields

logger = logging.getLogger("unisono.access")

# Machines ask for these every few seconds, so they are logged at level debug.
PROBES = frozenset({"/livez", "/readyz", "/health", "/metrics"})


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
    logger.log(level, "request", extra=fields(**facts))
