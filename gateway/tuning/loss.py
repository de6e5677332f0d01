"""How much less exact a setting makes a model: of text that the model itself writes.

The model as its file has it writes some texts at temperature 1; both servers then score them. The
loss is how much larger the perplexity is of the one with the setting: 1 % is about what llama.cpp's
int8 activations cost (tests/bench/README.md). Speaks to servers by /v1/completions alone.
"""

import urllib.error
import urllib.request
from collections.abc import Sequence
from math import exp
from typing import Any

import msgspec

OPENINGS = (
    "The history of the steam engine begins",
    "def read_lines(path):",
    "Dear Sir or Madam, I am writing to you",
    "To make bread at home you need",
    "Once upon a time, in a small village by the sea,",
    "In mathematics, a prime number is",
    "The committee met on Tuesday and decided",
    "Q: Why is the sky blue?\nA:",
)
MAX_TOKENS = 96
TIMEOUT_S = 300.0


class LossError(ValueError):
    """A server does not say how likely a text is."""


def write_texts(url: str, model: str) -> list[str]:
    """Have a server continue each opening. Raises LossError."""
    texts = []
    for seed, opening in enumerate(OPENINGS):
        answer = _completion(
            url,
            {
                "model": model,
                "prompt": opening,
                "max_tokens": MAX_TOKENS,
                "temperature": 1.0,
                "seed": seed,
            },
        )
        texts.append(opening + str(answer["choices"][0]["text"]))
    return texts


def surprise_of(url: str, model: str, texts: Sequence[str]) -> float:
    """Return the mean negative log-probability of a token of the texts. Raises LossError."""
    scores: list[float] = []
    for text in texts:
        body = {"model": model, "prompt": text, "max_tokens": 1, "prompt_logprobs": 0}
        choice = _completion(url, body)["choices"][0]
        positions = choice.get("prompt_logprobs") or []
        scores += [next(iter(found.values()))["logprob"] for found in positions if found]
    if not scores:
        raise LossError("it scores no prompts")
    return -sum(scores) / len(scores)


def loss_percent(surprise: float, with_setting: float) -> float:
    """Return how much larger the perplexity is, in percent; less than nothing counts as nothing."""
    return max(0.0, 100 * (exp(with_setting - surprise) - 1))


def _completion(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/v1/completions",
        msgspec.json.encode(body),
        {"Content-Type": "application/json"},
    )
    try:
        # HTTP_PROXY is for servers of others: this one listens on this machine.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=TIMEOUT_S) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, Any])
    except urllib.error.HTTPError as error:
        raise LossError(
            f"HTTP {error.code}: {error.read()[:200].decode(errors='replace')}"
        ) from None
    except OSError as error:
        raise LossError(str(error)) from None
