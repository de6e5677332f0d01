"""What of a tensor is read."""

ALL = slice(None)
"""All rows, or all columns."""
