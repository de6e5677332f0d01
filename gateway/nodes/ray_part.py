"""A node's part of a group, as an actor of Ray: it starts an agent, and is there while that is.

Runs in a worker process of Ray's. The agent is a process of its own and has no Ray in it; it dies
with this one by the pipe it was given, as ranks do with it.
"""

import os
import subprocess
import sys
import tempfile
import threading

from gateway.nodes.build import ROOT

# Who asked removes the placement group first, unless it is gone.
CLEAN_UP_SECONDS = 10.0
# An order follows within a second, unless there is nobody any more to give it.
ORDER_SECONDS = 60.0
REPORTED_BYTES = 1000


class NodePart:
    """Made an actor by ray_cluster.py, which gives it an order as soon as it has a place.

    One that waited for a node may outlive who asked for it; then no order comes.
    """

    def __init__(self) -> None:
        self._unwanted = _timer(ORDER_SECONDS)

    def run(self, order: bytes) -> str:
        """Carry out an order to its end; return what the agent said if that was no good end."""
        self._unwanted.cancel()
        environment = os.environ | {"PYTHONPATH": _with_root(os.environ.get("PYTHONPATH", ""))}
        with tempfile.TemporaryFile() as words:
            agent = subprocess.Popen(
                # -P: our code, whatever lies in the folder that Ray was started in.
                [sys.executable, "-P", "-m", "gateway.nodes.agent"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                env=environment,
            )
            assert agent.stdin is not None
            try:
                agent.stdin.write(len(order).to_bytes(4, "little") + order)
                agent.stdin.flush()
            except BrokenPipeError:
                pass  # its words say why
            status = agent.wait()
            agent.stdin.close()
            _timer(CLEAN_UP_SECONDS)
            words.seek(max(0, words.seek(0, os.SEEK_END) - REPORTED_BYTES))
            said = words.read().decode(errors="replace").strip()
        return f"its agent exited with status {status}: {said}" if status else ""


def _with_root(python_path: str) -> str:
    """Have the agent run the code that this process runs."""
    return f"{ROOT}{os.pathsep}{python_path}" if python_path else str(ROOT)


def _timer(seconds: float) -> threading.Timer:
    """Give the place back after so long, unless that is cancelled."""
    timer = threading.Timer(seconds, _remove_placement_group)
    timer.daemon = True
    timer.start()
    return timer


def _remove_placement_group() -> None:
    """Give back what this actor has; it ends with it."""
    import ray.util

    group = ray.util.get_current_placement_group()
    if group is not None:
        ray.util.remove_placement_group(group)
