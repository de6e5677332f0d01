"""What Responses tell of the tokens that an answer took."""

from gateway.dialects.responses_items import usage_of
from gateway.schema.usage import CompletionTokensDetails, PromptTokensDetails, Usage


def test_usage_tells_the_tokens_of_thoughts() -> None:
    usage = Usage(3, 5, 8, PromptTokensDetails(2), CompletionTokensDetails(4))
    assert usage_of(usage).output_tokens_details.reasoning_tokens == 4


def test_usage_of_models_that_do_not_think_has_no_thoughts() -> None:
    assert (
        usage_of(Usage(3, 5, 8, PromptTokensDetails(2))).output_tokens_details.reasoning_tokens == 0
    )
