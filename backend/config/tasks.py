"""What a model can be served for, whichever files it is from: text, vectors or scores."""

from collections.abc import Mapping

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.pooling import Pooling, Task

# What a yes/no reranker answers (Qwen3-Reranker's card), in the order of Pooling.answer_ids.
ANSWERS = ("yes", "no")


def check_task(config: ModelConfig, natural: Task, wanted: Task) -> Task:
    """Return what a model is served for. Raises ModelError for what it cannot do.

    natural: what its files say. wanted: what the operator does.
    """
    if wanted in ("auto", natural):
        return natural
    if config.sees_ahead or (config.spec.classifier and wanted == "generate"):
        raise ModelError(
            f"--task {wanted}: this {config.family} model is one to {natural}, and cannot {wanted}"
        )
    return wanted


def default_embedder(config: ModelConfig, why: str) -> tuple[Pooling, tuple[str, ...]]:
    """Return the pooling of a model that says none, and a note of it. why: nothing says.

    As sentence-transformers has it for encoders, and vLLM for decoders.
    """
    if config.sees_ahead:
        return Pooling("embed", ("mean",)), (f"{why}: vectors are the mean of all tokens",)
    pooling = Pooling("embed", ("lasttoken",), is_normalized=True)
    return pooling, (f"{why}: vectors are the last token's, of length 1",)


def answer_ids(vocabulary: Mapping[str, int]) -> tuple[int, ...]:
    """Return the ids of ANSWERS. Raises ModelError for a model that has none."""
    if any(answer not in vocabulary for answer in ANSWERS):
        raise ModelError(
            f"--task rerank: {' and '.join(ANSWERS)} are no tokens of this model\n"
            "a decoder reranks by their logits; a cross-encoder by a classifier of its own"
        )
    return tuple(vocabulary[answer] for answer in ANSWERS)
