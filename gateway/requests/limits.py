"""How much one request may ask for before anything is computed for it.

Owns the checks of counts, whatever is counted. Must not know prompts or tokens. Called by the
endpoints that generate.
"""

from gateway.errors import invalid
from gateway.schema.sampling import SamplingFields
from gateway.service import Limits


def check_num_choices(
    num_prompts: int, num_candidates: int, limits: Limits, request: SamplingFields
) -> None:
    """Refuse more sequences than one request may have."""
    num_choices = num_prompts * num_candidates
    if num_choices <= limits.max_choices:
        return
    name = "best_of" if num_candidates > request.num_choices else "n"
    raise invalid(
        f"This request asks for {num_choices} choices ({num_prompts} prompts with "
        f"{name} = {num_candidates}); at most {limits.max_choices} are answered at once.",
        name if num_candidates > 1 else "prompt",
    )


def check_num_logprobs(num_logprobs: int, limits: Limits, param: str) -> None:
    """Refuse more log-probabilities than are kept for one request."""
    if num_logprobs > limits.max_logprobs:
        raise invalid(
            f"This request asks for up to {num_logprobs} log-probabilities (tokens times "
            f"alternatives, over all choices); at most {limits.max_logprobs} are computed at "
            "once.",
            param,
        )
