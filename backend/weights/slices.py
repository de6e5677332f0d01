"""What of a tensor is read."""

ALL = slice(None)
"""All rows, or all columns."""


def shifted(part: slice, size: int, by: int) -> slice:
    """Return a slice of `size` places, `by` places further on."""
    start, stop, _ = part.indices(size)
    return slice(start + by, max(start, stop) + by)
