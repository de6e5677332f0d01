"""Plans the steps of a model that is pooled: a sequence is over when its last token has run.

Who runs, and with which blocks, is the scheduler's; here stands what differs: what may come in, how
much is worth having, and what a step's vectors mean. Called only by the lead rank.
"""

from collections.abc import Sequence as ListLike

from backend.scheduler.outputs import error_output
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.step import FAULTY, StepPlan
from backend.wire.messages import FinishReason, SeqOutput


class PoolingScheduler(Scheduler):
    """A Scheduler whose sequences get no tokens, but one vector each."""

    @property
    def credit(self) -> int:
        """Tokens of new work worth having: as of a Scheduler, but for twice the rows.

        A sequence takes one step: without others that wait, the next would begin with an empty
        batch.
        """
        if len(self._sequences) >= 2 * self.max_num_seqs:
            return 0
        backlog = sum(seq.num_uncomputed_tokens for seq in self._sequences.values())
        most = 2 * self.max_num_batched_tokens - backlog
        return max(0, min(most, self._tables.num_free_tokens))

    def commit_vectors(
        self, plan: StepPlan, vectors: ListLike[bytes]
    ) -> list[tuple[int, SeqOutput]]:
        """Record what a step gave, and finish what has ended.

        vectors: those of plan.sample_rows, in order; an empty one ends its sequence in error.
        Returns (worker, output) for every sequence that is over.
        """
        found = iter(vectors)
        outputs = []
        decodes, prefills = self._take_selection(plan)
        for seq in decodes + prefills:
            is_last, before = seq.is_sampled, seq.num_computed_tokens
            self.num_prompt_tokens += seq.num_scheduled
            seq.num_computed_tokens += seq.num_scheduled
            seq.num_scheduled = 0
            vector = next(found) if is_last else None
            if vector == b"":
                self._prefixes.forget(seq)
            else:
                self._prefixes.remember(seq, before)
                self._tables.trim(seq)
            if vector is not None:
                self._finish(seq)
                outputs.append((seq.key[0], _output(seq, vector)))
        return outputs

    def _check_room(self, seq: Sequence) -> None:
        longest = min(self.max_model_len, self._tables.longest(self.max_model_len))
        if seq.num_tokens > longest:
            raise ValueError(f"{seq.num_tokens} tokens do not fit: the model takes {longest}")
        seq.is_pooled = True
        seq.max_num_tokens = seq.num_tokens


def _output(seq: Sequence, vector: bytes) -> SeqOutput:
    if not vector:
        return error_output(seq, FAULTY)
    return SeqOutput(
        seq.key[1],
        [],
        FinishReason.STOP,
        num_cached_tokens=seq.num_cached_tokens,
        vector=vector,
    )
