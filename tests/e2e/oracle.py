"""What the default model says, by an oracle that shares no kernel with the servers under test.

The oracle computes once in float32 and its answer is kept (tests/bench/reference.py). A server that
computes otherwise may differ where the oracle itself hardly decides, so its text ends before that.
"""

from pathlib import Path

from gateway.text.tokenizer import Tokenizer
from tests.bench.cases import Case
from tests.bench.reference import get_reference

NUM_TOKENS = 12
# Logits between the two best tokens; test_numerics holds every fast path to it.
MIN_GAP = 0.5


def decided_texts(
    model: Path, tokenizer: Tokenizer, prompts: list[str], min_gap: float = MIN_GAP
) -> dict[str, str]:
    """Return for each prompt the greedy text that every server must begin with."""
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    reference = get_reference(model, ids, NUM_TOKENS, [Case(ids[0], 1)])
    texts = {}
    for index, prompt in enumerate(prompts):
        case = reference.prompts[index]
        scores = reference.of_prompts.top_scores[index]  # [NUM_TOKENS, kept]
        is_decided = scores[:, 0] - scores[:, 1] >= min_gap
        num_decided = NUM_TOKENS if is_decided.all() else int(is_decided.argmin())
        texts[prompt] = tokenizer.decode(case.ids[case.start : case.start + num_decided])
    return texts
