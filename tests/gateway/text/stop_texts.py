"""Texts that hold stop strings often, and where a text should end, found in the plainest way."""

from hypothesis import strategies as st

few_letters = st.text("abé", max_size=30)
stops = st.lists(st.text("abé", min_size=1, max_size=4), max_size=4).map(tuple)


def stopped(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """The definition: read character by character until some stop string is complete."""
    for end in range(1, len(text) + 1):
        lengths = [len(s) for s in stop if text[:end].endswith(s)]
        if lengths:
            return text[: end - max(lengths)], True
    return text, False
