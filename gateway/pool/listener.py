"""Who is told what happens in a ReplicaPool."""

from backend.wire.messages import StepOutput


class PoolListener:
    """Given to the pool when it is made. Called in the event loop; this one ignores everything."""

    def on_ready(self, replica: int) -> None:
        """A group takes work now."""

    def on_quiet(self, replica: int, epoch: int) -> None:
        """A group that was to be quiesced has nothing of this worker's left."""

    def on_cut(self, replica: int, epoch: int) -> None:
        """A channel has ended, and nobody has told of the group's death."""

    def on_resume(self, lost_s: float) -> None:
        """A sequence goes on whose group died at `lost_s`, CLOCK_MONOTONIC seconds."""

    def on_frame(self, replica: int, frame: StepOutput) -> None:
        """A group has sent the outputs of a step; the receivers have got theirs."""
