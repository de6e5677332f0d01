"""What of a tensor is read."""

ALL = slice(None)
"""All rows, or all columns."""


def shifted(part: slice, size: int, by: int, step: int = 1) -> slice:
    """Return a slice of `size` places, `by` places further on; they lie `step` apart."""
    start, stop, _ = part.indices(size)
    start, count = start * step + by, max(0, stop - start)
    return slice(start, start + max(0, count * step - step + 1), step)
