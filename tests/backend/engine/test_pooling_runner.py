"""One rank of a pooled model: what it holds, and requests that fail alone."""

from pathlib import Path

import pytest

from backend.config.load import load_config
from backend.fault_injection import InjectedFault
from backend.placement.footprint import Footprint
from backend.placement.sharding import split_model
from backend.quant.kept_weights import KeptWeights
from backend.scheduler.sequence import Sequence
from backend.weights.checkpoint import open_checkpoint
from backend.wire.messages import FinishReason
from backend.wire.sampling import SamplingParams
from tests.backend.models.encoder_models import (
    CASES,
    CROSS_ENCODERS,
    TEXTS,
    EncoderCase,
    engine_of,
    scheduler_of,
    write_model,
)

FAULTY_SEED = 13


def submit(test_faults: str, directory: Path) -> list[FinishReason | None]:
    """Run two texts, the second with the seed of the fault; return how each ended."""
    write_model(directory, CASES["bert"])
    engine = engine_of(directory, test_faults=test_faults)
    scheduler = scheduler_of(engine)
    for n, seed in enumerate((0, FAULTY_SEED)):
        params = SamplingParams(max_tokens=0, seed=seed)
        scheduler.add(Sequence((0, n), TEXTS[n], len(TEXTS[n]), params))
    plan = scheduler.schedule()
    assert plan is not None
    outputs = scheduler.commit_vectors(plan, engine.runner.run(plan).vectors)
    return [output.finish_reason for _, output in outputs]


def test_text_whose_vector_is_no_number_ends_alone(tmp_path: Path) -> None:
    ends = submit(f"nan:seed={FAULTY_SEED}", tmp_path)
    assert ends == [FinishReason.STOP, FinishReason.ERROR]


def test_fault_in_the_forward_pass_ends_the_group(tmp_path: Path) -> None:
    with pytest.raises(InjectedFault):
        submit(f"error:seed={FAULTY_SEED}", tmp_path)


@pytest.mark.parametrize("case", [CASES["mpnet"], CROSS_ENCODERS["bert"]], ids=["mpnet", "bert"])
def test_footprint_is_what_a_rank_comes_to_hold(case: EncoderCase, tmp_path: Path) -> None:
    write_model(tmp_path, case)
    engine = engine_of(tmp_path, dtype="bfloat16", kernels="torch")
    config = load_config(tmp_path)
    [shard] = split_model(config, 1)
    kept = KeptWeights("auto", "torch", dtype_bytes=2)
    checkpoint = open_checkpoint(tmp_path, config)
    estimate = Footprint(checkpoint, config, shard, kept, "bfloat16").total
    checkpoint.close()
    assert sum(estimate) == engine.model.weight_bytes
