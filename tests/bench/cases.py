"""What the numerics are judged on: 200 varied prompts and a fixed text, as token ids.

The texts lie in tests/data: passages of books and speeches whose authors died long ago, questions,
and beginnings of programs, lists, tables and letters. Knows no model but its tokenizer.
"""

from dataclasses import dataclass
from pathlib import Path

from gateway.text.tokenizer import Tokenizer

DATA = Path(__file__).parents[1] / "data"
PASSAGES = [
    "pride_and_prejudice.txt",
    "declaration_of_independence.txt",
    "gettysburg_address.txt",
    "moby_dick.txt",
]
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
# Lengths of the pieces that passages are cut into for prompts, in turn.
PIECES = (6, 11, 18, 27, 39, 52)
# The most rows that are usually measured are as many.
WINDOWS = 16


@dataclass(frozen=True, slots=True)
class Case:
    """A sequence whose tokens from `start` on are forced and judged, each by those before it."""

    ids: list[int]
    start: int

    def __len__(self) -> int:
        """How many of its tokens are judged."""
        return len(self.ids) - self.start


def read_prompts(tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """Return `count` prompts that take turns in kind, or as many as there are."""
    questions = _text("questions.txt").splitlines()
    snippets = _text("snippets.txt").rstrip("\n").split("\n%%\n")
    kinds = [
        [tokenizer.encode(CHAT.format(question)) for question in questions],
        [tokenizer.encode(snippet) for snippet in snippets],
        _pieces(tokenizer),
    ]
    longest = max(map(len, kinds))
    prompts = [kind[turn] for turn in range(longest) for kind in kinds if turn < len(kind)]
    return [prompt for prompt in prompts if len(prompt) > 1][:count]


def read_windows(tokenizer: Tokenizer) -> list[Case]:
    """Return the passages, one after the other, in windows of equal length."""
    ids = tokenizer.encode("\n\n".join(map(_text, PASSAGES)))
    size = len(ids) // WINDOWS
    return [Case(ids[at : at + size], 1) for at in range(0, WINDOWS * size, size)]


def _pieces(tokenizer: Tokenizer) -> list[list[int]]:
    pieces: list[list[int]] = []
    for name in PASSAGES:
        ids = tokenizer.encode(_text(name))
        while ids:
            size = PIECES[len(pieces) % len(PIECES)]
            pieces.append(ids[:size])
            ids = ids[size:]
    return pieces


def _text(name: str) -> str:
    return (DATA / name).read_text()
