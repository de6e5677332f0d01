"""One epoch of a replica group as one worker sees it: its channel, its credit.

Knows frames and counts, not why a sequence is sent. Belongs to ReplicaPool.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from backend.wire.channel import WorkerEnd
from backend.wire.messages import Abort, Ready, Reply, StepOutput, Submit, Vocabulary
from gateway.group_names import PRIMARY
from gateway.pool.inflight import InflightSequence
from gateway.pool.replica_epoch import ReplicaEpoch
from gateway.pool.routing import StepCost


class GroupStatus(msgspec.Struct, frozen=True):
    """One group, for health checks. Loads are as of its last frame, of all workers together."""

    group: int
    ready: bool
    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    seconds_since_progress: float
    name: str = PRIMARY


@dataclass(slots=True, eq=False)
class ReplicaConnection:
    """sent: sequences submitted to the group that may still get tokens.

    is_quarantine: it is given suspects of a death only; see resumption.py. trial: the one of them
    that has not shown to be harmless yet. is_quiescing: it is given nothing more, for it is to
    stop; is_quiet: and the supervisor knows that nothing is left in it. most_credit: that of
    an idle group.
    """

    replica: int
    epoch: int
    end: WorkerEnd
    ready: Ready | None = None
    credit: int = 0
    most_credit: int = 0
    last: StepOutput | None = None
    progress_s: float = field(default_factory=time.monotonic)
    sent: dict[int, InflightSequence] = field(default_factory=dict)
    is_quarantine: bool = False
    is_quiescing: bool = False
    is_quiet: bool = False
    trial: InflightSequence | None = None
    unsent_aborts: list[int] = field(default_factory=list)
    knows_vocabulary: bool = False
    step_cost: StepCost = field(default_factory=StepCost)
    num_sent_since_frame: int = 0

    @property
    def replica_epoch(self) -> ReplicaEpoch:
        return ReplicaEpoch(self.replica, self.epoch)

    @property
    def block_size(self) -> int:
        return self.ready.block_size if self.ready is not None else 1

    @property
    def num_pending_tokens(self) -> int:
        """Prompt tokens it holds and has not computed: the credit it has not given."""
        return self.most_credit - self.credit

    @property
    def num_rows(self) -> int:
        """Sequences of all workers that it runs or is about to."""
        last = self.last
        running = last.num_running + last.num_waiting if last is not None else 0
        return running + self.num_sent_since_frame

    @property
    def seconds_since_progress(self) -> float:
        """How long it has owed tokens without a frame; 0 when it owes nothing."""
        return time.monotonic() - self.progress_s if self.sent else 0.0

    def read(self) -> list[Reply]:
        """Return what has arrived. Raises ChannelBroken."""
        return self.end.receive()

    def can_hold(self, submit: Submit) -> bool:
        """Whether its KV cache has room for a sequence as long as it may become."""
        if self.ready is None:
            return False
        return num_tokens_at_most(submit) <= self.ready.kv_sequence_tokens

    @property
    def takes_work(self) -> bool:
        return self.ready is not None and not self.is_quiescing

    def grant(self, credit: int) -> None:
        """Take what the group says it would take on."""
        self.credit = 0 if self.is_quiescing else credit
        self.most_credit = max(self.most_credit, credit)

    def take(self, frame: StepOutput) -> None:
        """Note what a frame says of the group."""
        self.last = frame
        self.num_sent_since_frame = 0
        self.step_cost.take(frame)
        self.grant(frame.credit)
        self.progress_s = time.monotonic()

    def send(self, seq: InflightSequence, vocabulary: Callable[[], list[bytes]]) -> bool:
        """Send a sequence and count it; False, and no credit, when the channel has no room.

        Raises ValueError for what could never fit.
        """
        submit = seq.submit()
        if not self._teach(submit, vocabulary) or not self.end.send(submit):
            self.credit = 0  # until its next frame
            return False
        if not self.sent:
            self.progress_s = time.monotonic()
        self.credit -= len(submit.prompt_ids) + len(submit.output_ids)
        self.sent[seq.seq_id] = seq
        self.num_sent_since_frame += 1
        return True

    def _teach(self, submit: Submit, vocabulary: Callable[[], list[bytes]]) -> bool:
        """Send the vocabulary before the first grammar; False when there is no room."""
        params = submit.params
        if (params.grammar is None and params.thought is None) or self.knows_vocabulary:
            return True
        self.knows_vocabulary = self.end.send(Vocabulary(vocabulary()))
        return self.knows_vocabulary

    def forget(self, seq: InflightSequence) -> None:
        """A sequence is over, or given up."""
        del self.sent[seq.seq_id]
        if self.trial is seq:
            self.trial = None

    def abort(self, seq: InflightSequence) -> None:
        """Give a sequence up; the group frees it before its next step."""
        self.forget(seq)
        self.unsent_aborts.append(seq.seq_id)
        self.send_aborts()

    def send_aborts(self) -> None:
        """Send the aborts for which there is room."""
        while self.unsent_aborts:
            if not self.end.send(Abort(self.unsent_aborts[0]), urgent=True):
                return
            self.unsent_aborts.pop(0)

    def presumed_suspects(self) -> list[int]:
        """Return the seq_ids that may have ended its group, where nobody else can tell: those that
        it has given nothing yet. What is new or changed in a step is mostly among them."""
        return [seq_id for seq_id, seq in self.sent.items() if seq.num_tokens_here == 0]

    def status(self, name: str) -> GroupStatus:
        """Return what health checks show. name: what the group is called."""
        total = self.ready.num_blocks if self.ready else 0
        last = self.last
        return GroupStatus(
            self.replica,
            self.takes_work,
            last.num_running if last else 0,
            last.num_waiting if last else 0,
            last.num_free_blocks if last else total,
            total,
            self.seconds_since_progress,
            name,
        )

    def close(self) -> dict[int, InflightSequence]:
        """Drop the channel; return the sequences that were lost with it."""
        self.end.close()
        lost, self.sent, self.trial = self.sent, {}, None
        return lost


def num_tokens_at_most(submit: Submit) -> int:
    """Return how long a sequence may become."""
    return len(submit.prompt_ids) + submit.params.max_tokens
