"""Directories without weights, which are to be served with random ones: to measure a shape."""

from pathlib import Path

MARK = "dummy_weights"
"""The name of an empty file beside config.json that says so."""


def is_dummy(path: Path) -> bool:
    """Whether a model's weights are to be made up."""
    return (path / MARK).exists()
