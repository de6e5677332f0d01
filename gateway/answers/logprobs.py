"""Log-probabilities of tokens in the shapes that completions answer with.

Owns how a token that is no whole text is written. Knows tokens, not sequences or HTTP. Called by
the completions endpoint; a request without logprobs never gets here.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from backend.wire.messages import TokenLogprobs
from gateway.answers.choice import Token
from gateway.schema.completions import CompletionLogprobs, PromptLogprob

if TYPE_CHECKING:
    from gateway.text.tokenizer import Tokenizer

# JSON has no infinity; vLLM writes the same number for a token that cannot be.
LOWEST_LOGPROB = -9999.0


def token_text(token_id: int, tokenizer: "Tokenizer") -> str:
    """Write one token, as OpenAI does: `bytes:\\xe2\\x80` if it is part of a character."""
    piece = tokenizer.piece(token_id)
    if isinstance(piece, str):
        return piece
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def completion_logprobs(
    tokens: Sequence[Token], num_alternatives: int, tokenizer: "Tokenizer"
) -> CompletionLogprobs:
    """Return the four parallel arrays of some tokens.

    Tokens that are written alike share one entry of top_logprobs: the token that was chosen has it,
    else the likeliest of them.
    """
    texts = [token_text(token.token_id, tokenizer) for token in tokens]
    chosen: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    for token, text in zip(tokens, texts, strict=True):
        if token.logprobs is None:
            chosen.append(None)
            tops.append(None)
            continue
        logprob = _finite(token.logprobs.logprob)
        top: dict[str, float] = {}
        for token_id, alternative in token.logprobs.top[:num_alternatives]:
            top.setdefault(token_text(token_id, tokenizer), _finite(alternative))
        top[text] = logprob
        chosen.append(logprob)
        tops.append(top)
    return CompletionLogprobs(texts, chosen, tops, [token.text_offset for token in tokens])


def prompt_logprobs(
    tokens: Iterable[Token], num_alternatives: int, tokenizer: "Tokenizer"
) -> list[dict[int, PromptLogprob] | None]:
    """Return vLLM's prompt_logprobs, by token id; null for its first token."""
    return [
        None
        if token.logprobs is None
        else _by_id(token.token_id, token.logprobs, num_alternatives, tokenizer)
        for token in tokens
    ]


def mean_logprob(tokens: Iterable[Token]) -> float:
    """Return the mean log-probability of a choice's own tokens; the lowest if it has none."""
    logprobs = [
        token.logprobs.logprob for token in tokens if token.logprobs and not token.is_prompt
    ]
    return sum(logprobs) / len(logprobs) if logprobs else LOWEST_LOGPROB


def _by_id(
    chosen_id: int, logprobs: TokenLogprobs, num_alternatives: int, tokenizer: "Tokenizer"
) -> dict[int, PromptLogprob]:
    entries = {
        token_id: (logprob, rank)
        for rank, (token_id, logprob) in enumerate(logprobs.top[:num_alternatives], start=1)
    }
    entries[chosen_id] = (logprobs.logprob, logprobs.rank + 1)
    return {
        token_id: PromptLogprob(_finite(logprob), rank, token_text(token_id, tokenizer))
        for token_id, (logprob, rank) in entries.items()
    }


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)
