"""The requests of a chaos run, and what each must give: seeded, so that a run can be replayed.

In exact mode an answer depends on nothing but the request, so what an undisturbed server gave once
is what every later answer must be.
"""

import random
from dataclasses import dataclass
from typing import Any

WORDS = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split()
PATTERN = "([a-z]{3}[0-9]{2} ){8}"


@dataclass(frozen=True)
class Answer:
    """What a request gives: tokens, text and finish reason by choice."""

    ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    reasons: tuple[str | None, ...]

    def begins_with(self, part: "Answer") -> bool:
        """Whether `part` could be a beginning of this."""
        return all(
            whole[: len(some)] == some for whole, some in zip(self.ids, part.ids, strict=True)
        ) and all(
            whole.startswith(some) for whole, some in zip(self.texts, part.texts, strict=True)
        )


def make_catalog(rng: random.Random, size: int, longest: int) -> list[dict[str, Any]]:
    """Return `size` request bodies, one of everything that a resumption must carry over."""
    return [_body(rng, number, longest) for number in range(size)]


def _body(rng: random.Random, number: int, longest: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": "tiny",
        "prompt": " ".join(rng.choices(WORDS, k=rng.choice((1, 5, 40, 200)))),
        "max_tokens": rng.randint(1, longest),
        "seed": number,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    match number % 8:
        case 0:
            body["temperature"] = 0
        case 1:
            body |= {"top_p": 0.9, "top_k": 40}
        case 2:
            body |= {"frequency_penalty": 0.7, "repetition_penalty": 1.1}
        case 3:
            body |= {"no_repeat_ngram_size": 3, "temperature": 0}
        case 4:
            body |= {"n": 2}
        case 5:
            body |= {"logprobs": 2, "echo": True}
        case 6:
            body |= {"structured_outputs": {"regex": PATTERN}, "ignore_eos": False}
        case 7:
            body |= {"stop": ["z", "qu"], "min_tokens": min(3, body["max_tokens"])}
    return body
