"""Perplexity of a fixed text beside llama.cpp's: `python -m tests.bench.perplexity FILE.gguf`.

One sequence of some 3,000 tokens, all before a token in its context, along each path. `--paths`
chooses: `served` is what `unisono serve` computes with, `int16` and `int8` the same with such
activations (llama.cpp has int8), `float32` neither kernels nor rounding of ours. With `--expanded`
llama.cpp is given the same weights in float32, for which it rounds no activations: what is left of
the difference to `float32` is a fault of one of the two. `--kernels` forces a level; `--theirs`
keeps what llama.cpp says in a file, or takes it from there.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence as ListLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.engine import build_engine
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.settings import EngineSettings
from backend.wire.sampling import SamplingParams
from gateway.text.tokenizer import Tokenizer
from tests.bench.cases import DATA, PASSAGES
from tests.bench.expanded import write_expanded

PATHS: dict[str, dict[str, Any]] = {
    "served": {},
    "int16": {"activations": "int16"},
    "int8": {"activations": "int8"},
    "float32": {"dtype": "float32", "kernels": "torch"},
}
BUDGET = 256
KV_BYTES = 1 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--paths", default=",".join(PATHS), help="which, with commas")
    parser.add_argument("--text", type=Path, help="another text")
    parser.add_argument("--expanded", action="store_true", help="give llama.cpp float32")
    parser.add_argument("--kernels", default="auto", help="the level of our own kernels")
    parser.add_argument("--theirs", type=Path, help="llama.cpp's scores, kept")
    options = parser.parse_args()
    texts = [options.text] if options.text else [DATA / name for name in PASSAGES]
    text = "\n\n".join(path.read_text() for path in texts)
    if options.theirs and options.theirs.exists():
        said = json.loads(options.theirs.read_text())
        ids, theirs = said["ids"], said["nll"]
    else:
        ask = scores_expanded if options.expanded else scores_of_llama_cpp
        ids, theirs = ask(options.model, text)
        if options.theirs:
            options.theirs.write_text(json.dumps({"ids": ids, "nll": theirs}))
    own_ids = Tokenizer.load(options.model).encode(text)
    print(f"{len(ids)} tokens, {'the same' if ids == own_ids else 'NOT the same'} as ours")
    print("| path | perplexity | llama.cpp | ratio | rms of differences |\n|---|---|---|---|---|")
    for path in options.paths.split(","):
        ours = scores(options.model, ids, {"kernels": options.kernels} | PATHS[path])
        own, other = perplexity(ours), perplexity(theirs)
        squares = [(a - b) ** 2 for a, b in zip(ours, theirs, strict=True)]
        rms = math.sqrt(sum(squares) / len(squares))
        print(f"| {path} | {own:.4f} | {other:.4f} | {own / other:.5f} | {rms:.4f} |", flush=True)


def perplexity(nll: ListLike[float]) -> float:
    return math.exp(sum(nll) / len(nll))


def scores_of_llama_cpp(model: Path, text: str) -> tuple[list[int], list[float]]:
    """Return llama.cpp's tokens, and the negative log-probability of each but the first."""
    command = [sys.executable, "-m", "tests.bench.peers.llama_cpp_scores", str(model)]
    done = subprocess.run(
        command,
        input=text,
        text=True,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    answer = json.loads(done.stdout)
    return answer["ids"], answer["nll"]


def scores_expanded(model: Path, text: str) -> tuple[list[int], list[float]]:
    """The same of the file's weights in float32, four bytes each for as long as it runs."""
    with TemporaryDirectory() as directory:
        expanded = Path(directory) / "expanded.gguf"
        write_expanded(model, expanded)
        return scores_of_llama_cpp(expanded, text)


def scores(model: Path, ids: list[int], settings: dict[str, Any]) -> list[float]:
    """Return the negative log-probability of each token but the first, as one rank computes it."""
    told = EngineSettings(model=str(model), device="cpu", kv_cache_bytes=KV_BYTES, **settings)
    engine = build_engine(told, TensorParallel(), lambda phase, fraction: None)
    scheduler = Scheduler(
        BlockPool(engine.num_blocks, told.block_size),
        max_num_seqs=told.max_num_seqs,
        max_num_batched_tokens=BUDGET,
        max_model_len=engine.max_model_len,
        vocab_size=engine.config.vocab_size,
        groups=engine.groups,
    )
    params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=1)
    scheduler.add(Sequence((0, 0), list(ids), len(ids), params))
    nll: list[float] = []
    while (plan := scheduler.schedule()) is not None:
        result = engine.runner.run(plan)
        outputs = scheduler.commit(plan, result.token_ids, result.logprobs, result.prompt_logprobs)
        nll += [-score.logprob for _, output in outputs for score in output.prompt_logprobs]
    return nll


if __name__ == "__main__":
    main()
