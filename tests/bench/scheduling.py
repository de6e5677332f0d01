"""What the scheduler itself costs a step: `python -m tests.bench.scheduling [--rows 1,16,64]`.

No model: tokens are invented. Timed is what the lead asks for, in CPU time of its thread: planning
(schedule, who is new, who is sampled) and commit. Two loads: sequences that only decode, and ones
that come and go, where a finished one is followed at once by a prompt of 128 tokens that asks for
128; prompts get 64 tokens a step. Expected of 64 decoding: 0.3 us each for what must be Python (a
token appended, an output made), as much to gather columns, 25 us for numpy's calls: 65 us.
"""

import argparse
import statistics
import time
from itertools import count

from backend.scheduler.block_pool import BlockPool
from backend.scheduler.prefill_budget import PrefillLimit
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.wire.sampling import SamplingParams

PROMPT_TOKENS = 128
OUTPUT_TOKENS = 128
PROMPT_SHARE = 64
BLOCK_SIZE = 32
WARM_UP_STEPS = 300


class Load:
    """So many sequences at a time, each of num_tokens output tokens, one after another."""

    def __init__(self, num_rows: int, num_tokens: int) -> None:
        self._num_rows, self._num_tokens = num_rows, num_tokens
        self._numbers = count()
        self._scheduler = Scheduler(
            BlockPool(num_rows * 8192 // BLOCK_SIZE, BLOCK_SIZE),
            max_num_seqs=num_rows,
            max_num_batched_tokens=512,
            max_model_len=8192,
            vocab_size=1 << 20,
        )

    def step(self) -> tuple[float, float]:
        """Run one step; return the seconds of planning and of commit."""
        scheduler = self._scheduler
        while scheduler.num_running + scheduler.num_waiting < self._num_rows:
            number = next(self._numbers)
            prompt = list(range(number, number + PROMPT_TOKENS))
            params = SamplingParams(max_tokens=self._num_tokens)
            scheduler.add(Sequence((0, number), prompt, len(prompt), params))
        started = time.thread_time()
        plan = scheduler.schedule(PrefillLimit(PROMPT_SHARE))
        assert plan is not None
        scheduler.newcomers()
        sampled = scheduler.sampled
        planned_s = time.thread_time() - started
        token_ids = [5 + seq.num_tokens % 7 for seq in sampled]
        started = time.thread_time()
        scheduler.commit(plan, token_ids)
        return planned_s, time.thread_time() - started


def measure(num_rows: int, num_tokens: int, num_steps: int) -> tuple[float, float, float]:
    """Return the median us of planning, of commit and of both, once all rows are taken."""
    load = Load(num_rows, num_tokens)
    for _ in range(WARM_UP_STEPS):
        load.step()
    steps = [load.step() for _ in range(num_steps)]
    plans, commits = [step[0] for step in steps], [step[1] for step in steps]
    both = [plan + commit for plan, commit in zip(plans, commits, strict=True)]
    medians = [statistics.median(times) * 1e6 for times in (plans, commits, both)]
    return medians[0], medians[1], medians[2]


def main() -> None:
    """Print a line for each number of rows and load, the least of three rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1,16,64")
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    print("| rows | load | plan, us | commit, us | both, us |\n|---|---|---|---|---|")
    for num_rows in map(int, args.rows.split(",")):
        for name, num_tokens in (("decoding", 8000), ("coming and going", OUTPUT_TOKENS)):
            rounds = [measure(num_rows, num_tokens, args.steps) for _ in range(3)]
            plan, commit, both = min(rounds, key=lambda figures: figures[2])
            print(f"| {num_rows} | {name} | {plan:.0f} | {commit:.0f} | {both:.0f} |")


if __name__ == "__main__":
    main()
