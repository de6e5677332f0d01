"""The small model that deployments are tried with."""

from tests.e2e.conftest import tiny_model

__all__ = ["tiny_model"]
