"""How far the fast paths are from float32: `python -m tests.bench.numerics`.

The reference (tests/bench/reference.py) continues 200 varied prompts greedily by 32 tokens. An
engine made as EngineSettings say is then forced over that text, and over a fixed passage, along
each path: prefill, and decode at each number of rows, because kernels differ by rows. Printed for
each: the share of positions with the same best token, the largest gap between the reference's two
best (in logits) where it differs, the share of prompts with the same text, the mean divergence
KL(reference || path) in nats, and the perplexity of the passage as a ratio.
"""

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from backend import native
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import build_engine
from backend.engine.platform import DTYPES
from backend.settings import EngineSettings
from gateway.default_model import default_model
from gateway.text.tokenizer import Tokenizer
from tests.bench.cases import Case, read_prompts, read_windows
from tests.bench.forced import PREFILL_ROWS, Forcer, Logits, best_tokens
from tests.bench.reference import Judgement, Reference, get_reference, scores_of

HEADINGS = ["path", "same best", "largest gap", "same text", "KL", "perplexity", "ratio", "s"]
# The engine's own cache is small: only its warm-up uses it.
KV_BYTES = 1 << 24

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Divergence:
    """How one path differs from the reference; see the module for the figures."""

    path: str
    same_best: float
    largest_gap: float
    same_text: float
    divergence: float
    perplexity: float
    ratio: float
    seconds: float

    def __str__(self) -> str:
        """One row of a Markdown table."""
        return (
            f"| {self.path} | {self.same_best:.2%} | {self.largest_gap:.3f} | {self.same_text:.1%} "
            f"| {self.divergence:.1e} | {self.perplexity:.3f} | {self.ratio:.5f} "
            f"| {self.seconds:.0f} |"
        )


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What is known of each judged token of each case [C, P]: is the best the reference's,
    divergence, and the log-probability of the token that is there."""

    is_same: NDArray[np.bool_]
    divergence: Floats
    scores: Floats


def measure(
    settings: EngineSettings, reference: Reference, rows: Sequence[int]
) -> Iterator[Divergence]:
    """Build an engine and force it along every path: prefill, then decode at each of `rows`."""
    longest = max(len(case.ids) for case in (*reference.prompts, *reference.windows))
    settings = msgspec.structs.replace(settings, kv_cache_bytes=KV_BYTES)
    if settings.threads:
        torch.set_num_threads(settings.threads)
        native.set_num_threads(settings.threads)
    engine = build_engine(settings, TensorParallel(), lambda phase, fraction: None)
    dtype = torch.int8 if settings.kv_cache_dtype == "int8" else DTYPES[engine.dtype]
    max_rows = max(PREFILL_ROWS, *rows)
    forcer = Forcer(engine.model, engine.config, dtype, max_rows, longest)
    for count in (0, *rows):

        def compare(cases: list[Case], judgement: Judgement, count: int = count) -> _Comparison:
            stream = forcer.decode(cases, count) if count else forcer.prefill(cases)
            return _compare(stream, cases, judgement)

        started = time.monotonic()
        prompts = compare(reference.prompts, reference.of_prompts)
        windows = compare(reference.windows, reference.of_windows)
        name = f"decode, {count} rows" if count else "prefill"
        yield _condense(name, reference, prompts, windows, time.monotonic() - started)


def _compare(stream: Iterable[Logits], cases: list[Case], judgement: Judgement) -> _Comparison:
    is_same = np.zeros(judgement.scores.shape, np.bool_)
    divergence, scores = (np.empty(judgement.scores.shape, np.float32) for _ in range(2))
    for logits in stream:
        own = logits.rows.float().log_softmax(-1)
        place = (logits.case, slice(logits.start, logits.start + len(own)))
        top_ids = judgement.top_ids[place]
        is_same[place] = best_tokens(logits.rows) == top_ids[:, 0]
        top_own = np.take_along_axis(own.numpy(), top_ids, axis=1)
        divergence[place] = _divergence(judgement.top_scores[place], top_own)
        scores[place] = scores_of(own, cases[logits.case], logits.start)
    return _Comparison(is_same, divergence, scores)


def _divergence(of_reference: Floats, own: Floats) -> Floats:
    """KL between distributions over the kept tokens and, as one outcome, all others.

    of_reference, own: log-probabilities [n, NUM_KEPT] -> [n].
    """
    p, q = (np.exp(scores.astype(np.float64)) for scores in (of_reference, own))
    p_rest, q_rest = (np.maximum(1 - x.sum(-1), 1e-12) for x in (p, q))
    kept = (p * (of_reference - own)).sum(-1)
    divergence: Floats = (kept + p_rest * np.log(p_rest / q_rest)).astype(np.float32)
    return divergence


def _condense(
    path: str, reference: Reference, prompts: _Comparison, windows: _Comparison, seconds: float
) -> Divergence:
    best_two = reference.of_prompts.top_scores[..., :2]
    gaps = (best_two[..., 0] - best_two[..., 1])[~prompts.is_same]
    perplexity, of_reference = (
        float(np.exp(-scores.mean(dtype=np.float64)))
        for scores in (windows.scores, reference.of_windows.scores)
    )
    return Divergence(
        path,
        same_best=float(prompts.is_same.mean()),
        largest_gap=float(gaps.max(initial=0.0)),
        same_text=float(prompts.is_same.all(axis=1).mean()),
        divergence=float(prompts.divergence.mean()),
        perplexity=perplexity,
        ratio=perplexity / of_reference,
        seconds=seconds,
    )


def main() -> None:
    """Print one line for each path."""
    args = _arguments()
    settings = msgspec.json.decode(args.engine, type=EngineSettings)
    model = Path(settings.model) if settings.model else default_model(progress=False)
    settings = msgspec.structs.replace(settings, model=str(model))
    tokenizer = Tokenizer.load(model)
    prompts, windows = read_prompts(tokenizer, args.prompts), read_windows(tokenizer)
    reference = get_reference(model, prompts, args.tokens, windows, fresh=args.fresh)
    print(
        f"{model.name}, {args.engine}: {len(prompts)} prompts x {args.tokens} tokens, "
        f"passage of {sum(map(len, windows))} tokens"
    )
    print(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|")
    for divergence in measure(settings, reference, [int(n) for n in args.rows.split(",")]):
        print(divergence, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="{}", help="EngineSettings as JSON")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=32, help="tokens a prompt is continued by")
    parser.add_argument("--rows", default="1,16", help="rows of a decode step, one path each")
    parser.add_argument("--fresh", action="store_true", help="compute the reference again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
