"""What a worker keeps of an accepted sequence, so that any group can go on with it.

Knows token ids, never groups or text. Written by ReplicaPool with every frame.
"""

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from backend.wire.messages import SeqOutput, Submit
from gateway.group_names import PRIMARY


class Receiver(Protocol):
    """Who gets the tokens of a submitted sequence."""

    def sent(self, seq_id: int) -> None:
        """A sequence has left the queue for a group; again after a group's death. May be called
        before submit() returns."""

    def receive(self, output: SeqOutput) -> None:
        """Take what one sequence got in a step. Called in the event loop; must not block."""


@dataclass(slots=True, eq=False)
class InflightSequence:
    """One sequence, from ReplicaPool.submit() to its last token.

    first: what was submitted. group: the name of the groups that may have it. output_ids,
    num_prompt_logprobs: what has been delivered since.
    num_suspicions: groups that died while this may have been the cause.
    lost_s: when its last group died, CLOCK_MONOTONIC seconds; 0 for never.
    num_resumed: how many of output_ids its present group was given.
    """

    first: Submit
    receiver: Receiver
    group: str = PRIMARY
    output_ids: list[int] = field(default_factory=list)
    num_prompt_logprobs: int = 0
    num_suspicions: int = 0
    lost_s: float = 0.0
    num_resumed: int = 0

    @property
    def seq_id(self) -> int:
        return self.first.seq_id

    def submit(self) -> Submit:
        """Return what a group needs to go on after the last token delivered."""
        if not self.lost_s:
            return self.first
        self.num_resumed = len(self.output_ids)
        return msgspec.structs.replace(
            self.first, output_ids=self.output_ids, num_prompt_logprobs=self.num_prompt_logprobs
        )

    @property
    def num_tokens_here(self) -> int:
        """Output tokens from its present group."""
        return len(self.output_ids) - self.num_resumed

    def deliver(self, output: SeqOutput) -> None:
        """Note what a frame brought and pass it on."""
        self.output_ids += output.token_ids
        self.num_prompt_logprobs += len(output.prompt_logprobs)
        self.receiver.receive(output)
