"""Which tests of real servers stay together, on one of the workers that share them out.

Tests of one file do: they share its servers. So do all that use a server of the real model, which
is the slowest to start and would otherwise be started by each worker. tests/conftest.py calls this.
"""

import pytest

SHARED_SERVERS = {"default_server", "tool_server"}


def mark_group(item: pytest.Item) -> None:
    """Mark an e2e test with the group it belongs to."""
    if item.get_closest_marker("e2e"):
        uses_shared = SHARED_SERVERS.intersection(getattr(item, "fixturenames", ()))
        group = "real model" if uses_shared else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
