"""One tiny model of every architecture that transformers writes, for the sweep of its fields."""

import logging
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from tests.backend.models import encoder_models, tiny_engine, tiny_t5
from tests.backend.models.encoder_models import EncoderCase
from tests.backend.models.family_cases import FamilyCase, TinyModel
from tests.backend.models.field_sweep import Subject
from tests.backend.models.tiny_t5 import DecoderRun, T5Case, TinyT5

Case = FamilyCase | EncoderCase | T5Case
_INPUTS, _ANSWER = tiny_t5.input_of(21), [0, *tiny_t5.input_of(9)]


def subject_of(case: Case, directory: Path) -> Subject:
    """Write a case's model; return it with both ways to its results."""
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    path = directory / "model"
    match case:
        case T5Case():
            TinyT5(case, path)
            architecture = case.architecture
            engine_of, num_tokens = tiny_engine.engine_of, 10
        case EncoderCase():
            encoder_models.write_model(path, case)
            architecture = case.model
            engine_of, num_tokens = encoder_models.engine_of, 40
        case FamilyCase():
            tiny = TinyModel(case, directory)
            architecture = case.architecture
            engine_of, num_tokens = tiny_engine.engine_of, len(tiny.prompt)
    kind = getattr(transformers, architecture)

    def load(path: Path) -> Any:
        # As a file says it: kernels of whole batches would hide nothing, and are slower to start.
        model, info = kind.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        for name in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if left := {each for each in info[name] if "rotary" not in str(each)}:
                raise ValueError(f"{name}: {sorted(left)[0]}")
        return model.eval()

    def theirs(path: Path) -> Tensor:
        model = load(path)
        with torch.inference_mode():
            match case:
                case T5Case():
                    asked = {"input_ids": [_INPUTS], "decoder_input_ids": [_ANSWER]}
                    inputs = {name: torch.tensor(ids) for name, ids in asked.items()}
                    logits: Tensor = model(**inputs).logits[0]
                    return logits / case.scale
                case EncoderCase():
                    texts = [torch.tensor([text]) for text in encoder_models.TEXTS]
                    if architecture.endswith("Classification"):
                        return torch.stack([model(text).logits[0].sigmoid() for text in texts])
                    means = [model(text).last_hidden_state[0].mean(0) for text in texts]
                    return torch.stack(means)
                case FamilyCase():
                    prompt = torch.tensor([tiny.prompt])
                    logits = model(prompt, use_cache=False).logits[0]
                    return logits

    def ours(engine: Any) -> Tensor:
        match case:
            case T5Case():
                return tiny_t5.logits_of(engine, [DecoderRun(_INPUTS).plan(_ANSWER)])
            case EncoderCase():
                return torch.tensor(encoder_models.vectors_of(engine, encoder_models.TEXTS))
            case FamilyCase():
                return tiny_engine.logits_of(engine, tiny.prompt)

    values = kind.config_class.from_pretrained(path).to_dict()
    values["architectures"] = [architecture]
    if architecture == "YoutuForCausalLM":
        # transformers 5.23 sets the row of padding to 0 in the embedding that it has loaded.
        values["pad_token_id"] = None
    return Subject(path, values, kind.config_class, theirs, engine_of, ours, num_tokens)
