"""transformers' own generation on the same card, of the same shape with random weights."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import torch

from backend.config.hf_directory import read_json
from gateway.bench.presets import TAKEOFF_SAMPLING
from gateway.dummy_model import dummy_directory

NEW_TOKENS = 64


class PeerRow(msgspec.Struct):
    """tokens_s: of `generate` (its batch in one call) and of its continuous batching, which leaves
    the repetition penalty out; 0 with a reason where it was not measured."""

    batch: int
    prompt: int
    generate_tokens_s: float = 0.0
    continuous_tokens_s: float = 0.0
    reason: str = ""


class PeerResults(msgspec.Struct):
    model: str
    version: str
    rows: list[PeerRow]


def measure_peer(
    model: str,
    batches: list[int],
    prompts: list[int],
    device: str = "cuda",
    save: Callable[[PeerResults], None] = lambda results: None,
) -> PeerResults:
    """Build the model and time both ways of generating, under Table 3's sampling.

    save: told what there is after each row.
    """
    import transformers

    theirs = _build(model, device)
    results = PeerResults(model, transformers.__version__, [])
    for prompt in prompts:
        for batch in batches:
            row = PeerRow(batch, prompt)
            inputs = [[10 + (7 * n + place) % 100 for place in range(prompt)] for n in range(batch)]
            for name, run in (("generate", _generate), ("continuous", _continuous)):
                try:
                    run(theirs, inputs)  # first calls compile and capture
                    setattr(row, f"{name}_tokens_s", run(theirs, inputs))
                except Exception as error:
                    row.reason += f"{name}: {type(error).__name__} {error} "[:200]
            theirs.destroy_cached_continuous_batching_manager()
            if device == "cuda":
                torch.cuda.empty_cache()
            results.rows.append(row)
            save(results)
    return results


def _build(model: str, device: str) -> Any:
    import transformers

    fields = read_json(dummy_directory(model) / "config.json", dict[str, Any])
    architecture = getattr(transformers, fields["architectures"][0])
    config = architecture.config_class(**fields)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device("meta"):
        theirs = architecture(config)
    theirs = theirs.to(dtype).to_empty(device=device).eval()
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in theirs.named_parameters():
        if weight.ndim == 1:
            weight.data.fill_(1.0)
        else:
            scale = 0.3 if "embed" in name else weight.shape[-1] ** -0.5
            weight.data.normal_(0.0, scale, generator=generator)
    # to_empty left the table of angles empty: one that is made anew has it.
    rotary = theirs.model.rotary_emb
    theirs.model.rotary_emb = type(rotary)(config).to(device)
    return theirs


def _settings() -> Any:
    import transformers

    known = {k: v for k, v in TAKEOFF_SAMPLING.items() if k != "min_tokens"}
    return transformers.GenerationConfig(
        do_sample=True, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, pad_token_id=0,
        eos_token_id=2, bos_token_id=1, **known,
    )  # fmt: skip


def _generate(theirs: Any, inputs: list[list[int]]) -> float:
    device = theirs.device
    ids = torch.tensor(inputs, device=device)
    started = time.perf_counter()
    with torch.inference_mode():
        out = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=_settings()
        )
    written = out.shape[0] * (out.shape[1] - ids.shape[1])
    out.cpu()
    return float(written / (time.perf_counter() - started))


def _continuous(theirs: Any, inputs: list[list[int]]) -> float:
    more: dict[str, Any] = {}
    if theirs.device.type == "cpu":  # of a host's memory it would take all as well
        import transformers

        bounds = transformers.ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=64)
        more["continuous_batching_config"] = bounds
    started = time.perf_counter()
    # Its cache takes all that is free, and half a minute where memory is slow: it is kept.
    results = theirs.generate_batch(
        inputs=inputs,
        generation_config=_settings(),
        persistent_manager=True,
        progress_bar=False,
        **more,
    )
    written = sum(len(result.generated_tokens) for result in results.values())
    return float(written / (time.perf_counter() - started))
