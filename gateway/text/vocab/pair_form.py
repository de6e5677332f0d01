"""How a model takes two texts as one input: a question and a document, for a cross-encoder.

Owns the form, and how two texts are cut to fit. Knows no texts, only ids. Filled by the loaders of
this package, used by `gateway/text/tokenizer.py`.
"""

from dataclasses import dataclass

import tokenizers


@dataclass(frozen=True, slots=True)
class TokenizedPair:
    """Two texts as one input. type_ids: the segment of each token, 0 or 1, as long as `ids`."""

    ids: list[int]
    type_ids: list[int]


@dataclass(frozen=True, slots=True)
class PairForm:
    """What stands around the two texts, and their segments.

    before, between, after: ids of special tokens, with the segment of each.
    first_type, second_type: the segments of the texts' own tokens.
    """

    before: tuple[tuple[int, int], ...]
    between: tuple[tuple[int, int], ...]
    after: tuple[tuple[int, int], ...]
    first_type: int = 0
    second_type: int = 0

    def join(self, first: list[int], second: list[int], max_length: int | None) -> TokenizedPair:
        """Return the pair, at most `max_length` tokens of it.

        The longer text loses its last tokens first, as transformers' "longest_first" has it. Raises
        ValueError if not even the special tokens fit.
        """
        if max_length is not None:
            num_special = len(self.before) + len(self.between) + len(self.after)
            if max_length < num_special:
                raise ValueError(
                    f"{max_length} tokens are too few: a pair has {num_special} special tokens"
                )
            first, second = _cut(first, second, max_length - num_special)
        marked = [
            *self.before,
            *((token_id, self.first_type) for token_id in first),
            *self.between,
            *((token_id, self.second_type) for token_id in second),
            *self.after,
        ]
        return TokenizedPair([id_ for id_, _ in marked], [type_ for _, type_ in marked])


def pair_form_of(backend: tokenizers.Tokenizer) -> PairForm:
    """Return the form that the backend's own post-processor gives two texts."""
    encoding = backend.encode("a", "b", add_special_tokens=True)
    tokens = list(zip(encoding.ids, encoding.type_ids, strict=True))
    owners = encoding.sequence_ids
    firsts = [i for i, owner in enumerate(owners) if owner == 0]
    seconds = [i for i, owner in enumerate(owners) if owner == 1]
    # A tokenizer may make no token of a letter; then nothing is known to stand around it.
    if not firsts or not seconds:
        return PairForm((), (), (), 0, 0)
    return PairForm(
        before=tuple(tokens[: firsts[0]]),
        between=tuple(tokens[firsts[-1] + 1 : seconds[0]]),
        after=tuple(tokens[seconds[-1] + 1 :]),
        first_type=tokens[firsts[0]][1],
        second_type=tokens[seconds[0]][1],
    )


def _cut(first: list[int], second: list[int], num_left: int) -> tuple[list[int], list[int]]:
    if len(first) + len(second) <= num_left:
        return first, second
    num_shorter = min(len(first), len(second), num_left // 2)
    num_first = num_left - num_shorter if len(first) > len(second) else num_shorter
    return first[:num_first], second[: num_left - num_first]
