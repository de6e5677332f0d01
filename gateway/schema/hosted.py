"""What only OpenAI's own servers do around an answer, of what its clients' types can ask for.

Most of it changes nothing of an answer and is accepted; what would hold one back is refused.
"""

from collections.abc import Mapping
from typing import Any

from gateway.errors import invalid


def check_hosted(
    moderation: Mapping[str, Any] | None, prompt_cache_options: Mapping[str, Any] | None
) -> None:
    """Raise ApiError for answers that are to be withheld: by a moderation, or all of them."""
    policy = (moderation or {}).get("policy")
    for side in ("input", "output"):
        rule = policy.get(side) if isinstance(policy, dict) else None
        if isinstance(rule, dict) and rule.get("mode") == "block":
            name = f"moderation.policy.{side}"
            message = f"'{name}' is not supported: nothing is moderated, and so blocked, here."
            raise invalid(message, name, "unsupported_parameter")
    if (prompt_cache_options or {}).get("prewarm"):
        name = "prompt_cache_options.prewarm"
        message = f"'{name}' is not supported: every request is answered."
        raise invalid(message, name, "unsupported_parameter")
