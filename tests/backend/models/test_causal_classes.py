"""Every causal class of transformers is ours, or served by its code, or refused in words.

Never a wrong answer, and never a traceback. `causal_classes.py` prints the table anew.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.backend.models.causal_classes import (
    TOLERANCE,
    classes,
    refusal_by_source,
    try_class,
    write_model,
)

pytestmark = pytest.mark.slow

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_TOWER = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2
}  # fmt: skip
# Fields of some classes, where tiny models have others than causal_classes.SMALL.
OWN: dict[str, dict[str, Any]] = {
    "CohereCompassForCausalLM": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE},
    },
    "DbrxForCausalLM": {
        "attn_config": {"clip_qkv": 0.5, "kv_n_heads": 3, "rope_theta": 10000.0},
        "ffn_config": {
            "hidden_size": 96,
            "ffn_hidden_size": 64,
            "moe_num_experts": 4,
            "moe_top_k": 2,
        },
    },
    "DiffLlamaForCausalLM": {"num_key_value_heads": 2},
    "FuyuForCausalLM": {"text_config": {}, "image_size": 30, "patch_size": 10},
    # Two layers see the keys of layers before; two have sparse activations.
    "Gemma3nForCausalLM": {
        "num_hidden_layers": 5,
        "num_kv_shared_layers": 2,
        "layer_types": [
            f"{kind}_attention" for kind in ("sliding", "full", "sliding", "sliding", "full")
        ],
        "intermediate_size": 192,
        "vocab_size_per_layer_input": 320,
        "hidden_size_per_layer_input": 16,
        "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0, 0.0],
        "laurel_rank": 8,
    },
    "GotOcr2ForConditionalGeneration": {
        "text_config": {"sliding_window": None},
        "vision_config": _TOWER
        | {
            "output_channels": 16,
            "image_size": 32,
            "patch_size": 16,
            "mlp_dim": 32,
            "window_size": 2,
            "global_attn_indexes": [0],
        },
    },
    "MllamaForCausalLM": {"num_hidden_layers": 4, "cross_attention_layers": [1]},
    "MossTranscribeDiarizeForConditionalGeneration": {
        "text_config": {"sliding_window": None},
        "audio_config": _TOWER,
    },
    "MoshiForCausalLM": {"sliding_window": 256},
    "Phi4MultimodalForCausalLM": {
        "vision_config": _TOWER,
        "audio_config": {
            "num_blocks": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 32,
        },
    },
    "XmodForCausalLM": {"default_language": "en_XX"},
}
OWN |= {
    # Keys are multiplied out for every head.
    name: {"num_key_value_heads": 6}
    for name in (
        "AXK1ForCausalLM",
        "AXK2ForCausalLM",
        "DeepseekV32ForCausalLM",
        "Dots3NoteForCausalLM",
        "GlmMoeDsaForCausalLM",
        "LongcatFlashForCausalLM",
        "MiniCPM3ForCausalLM",
    )
}
KEEPS_STATE = "keeps a state of its own"
LETS_NOBODY = "lets nobody else attend"
ANSWERS_NOTHING = "by itself it answers nothing"
SEES_AHEAD = "lets tokens see those after them"
# Refused by what their source says.
BY_SOURCE = {
    ANSWERS_NOTHING: "Gemma4AssistantForCausalLM Gemma4UnifiedAssistantForCausalLM",
    KEEPS_STATE: """
        BailingHybridForCausalLM DeepseekV4ForCausalLM FalconMambaForCausalLM JambaForCausalLM
        InklingForCausalLM Inkling2ForCausalLM KimiLinearForCausalLM Lfm3ForCausalLM
        MambaForCausalLM MiniMaxForCausalLM OlmoHybridForCausalLM
        Qwen4ExpForCausalLM RecurrentGemmaForCausalLM RwkvForCausalLM ZambaForCausalLM
        Zamba2ForCausalLM ZayaForCausalLM xLSTMForCausalLM
    """,
    LETS_NOBODY: """
        BartForCausalLM BigBirdForCausalLM BigBirdPegasusForCausalLM BioGptForCausalLM
        BlenderbotForCausalLM BlenderbotSmallForCausalLM BloomForCausalLM BltForCausalLM
        CodeGenForCausalLM CpmAntForCausalLM GPTNeoXJapaneseForCausalLM GitForCausalLM
        MBartForCausalLM MarianForCausalLM MegatronBertForCausalLM MptForCausalLM MvpForCausalLM
        MusicgenForCausalLM MusicgenMelodyForCausalLM PLBartForCausalLM PegasusForCausalLM
        ProphetNetForCausalLM ReformerModelWithLMHead RemBertForCausalLM RoFormerForCausalLM
        TrOCRForCausalLM WhisperForCausalLM XGLMForCausalLM XLMWithLMHeadModel XLNetLMHeadModel
    """,
}
# Served, with the logits of transformers' own forward.
SERVED = """
    AXK1ForCausalLM ApertusForCausalLM AriaTextForCausalLM BeamForCausalLM BitNetForCausalLM
    CTRLLMHeadModel Cohere2MoeForCausalLM CohereCompassForCausalLM DbrxForCausalLM Emu3ForCausalLM
    ExaoneMoeForCausalLM FlexOlmoForCausalLM FlintForCausalLM FuyuForCausalLM Gemma3nForCausalLM
    GotOcr2ForConditionalGeneration GraniteMoeSWAForCausalLM HYV3ForCausalLM Kolibri1ForCausalLM
    LagunaForCausalLM MiniCPM3ForCausalLM MiniMaxM3VLForCausalLM MllamaForCausalLM
    ModernBertDecoderForCausalLM MossTranscribeDiarizeForConditionalGeneration
    NanoChatForCausalLM PersimmonForCausalLM PhimoeForCausalLM VaultGemmaForCausalLM
"""
# Refused once the class is built. Tiny encoders have no is_decoder, as their defaults are.
REFUSED = {
    "'chunked_attention' is not served": "Llama4ForCausalLM",
    "'indexed_attention' is not served": """
        AXK2ForCausalLM DeepseekV32ForCausalLM Dots3NoteForCausalLM GlmMoeDsaForCausalLM
        HYV4ForCausalLM
    """,
    "does not attend once in each of its": """
        HrmTextForCausalLM LongcatFlashForCausalLM Phi4MultimodalForCausalLM
    """,
    "query and 6 KV heads of 16, expected were": "JetMoeForCausalLM MiMoV2FlashForCausalLM",
    "attends 4 times in 2 layers": "DiffLlamaForCausalLM",
    "makes an attention mask of its own": "DogeForCausalLM",
    "sees a window of all tokens, its configuration says 256": "MoshiForCausalLM",
    LETS_NOBODY: "OpenAIGPTLMHeadModel",
    SEES_AHEAD: """
        BertGenerationDecoder BertLMHeadModel CamembertForCausalLM Data2VecTextForCausalLM
        ElectraForCausalLM ErnieForCausalLM RoCBertForCausalLM RobertaForCausalLM
        RobertaPreLayerNormForCausalLM XLMRobertaForCausalLM XLMRobertaXLForCausalLM XmodForCausalLM
    """,
}


# What sees, and its text's class. The first cannot be built without a package of its own (timm).
SEEING = {
    "Gemma3nForConditionalGeneration": "Gemma3nForCausalLM",
    "MllamaForConditionalGeneration": "MllamaForCausalLM",
}


def by_class(tables: dict[str, str]) -> dict[str, str]:
    """Return class -> words."""
    return {name: words for words, names in tables.items() for name in names.split()}


def test_every_class_stands_in_a_table() -> None:
    listed = [*by_class(BY_SOURCE), *by_class(REFUSED), *SERVED.split()]
    listed.append("Gemma3nForConditionalGeneration")
    assert sorted(listed) == sorted(classes())


@pytest.mark.parametrize("name", by_class(BY_SOURCE))
def test_source_says_what_is_missing(name: str) -> None:
    words = refusal_by_source(name, classes()[name])
    assert by_class(BY_SOURCE)[name] in words and name in words


@pytest.mark.parametrize("name", SERVED.split())
def test_logits_are_those_of_the_class(name: str, tmp_path: Path) -> None:
    expected = write_model(tmp_path, name, OWN.get(name, {}))
    outcome = try_class(tmp_path, expected, "auto")
    assert outcome.error is not None, outcome.words
    assert outcome.error <= TOLERANCE


@pytest.mark.parametrize("name", SEEING)
def test_text_of_a_class_is_served_alone(name: str, tmp_path: Path) -> None:
    """Its tensors are those of the text, by the names that the whole has them by."""
    text = SEEING[name]
    expected = write_model(tmp_path, text, OWN[text])
    config = json.loads((tmp_path / "config.json").read_text())
    whole = {"architectures": [name], "model_type": classes()[text], "text_config": config}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    tensors = load_file(tmp_path / "model.safetensors")
    nested = {key.replace("model.", "model.language_model.", 1): v for key, v in tensors.items()}
    nested["model.audio_tower.conv.weight"] = torch.zeros(2)
    save_file(nested, tmp_path / "model.safetensors")
    outcome = try_class(tmp_path, expected, "auto")
    assert outcome.error is not None, outcome.words
    assert outcome.error <= TOLERANCE


@pytest.mark.parametrize("name", by_class(REFUSED))
def test_refusal_names_what_is_missing(name: str, tmp_path: Path) -> None:
    expected = write_model(tmp_path, name, OWN.get(name, {}))
    assert by_class(REFUSED)[name] in try_class(tmp_path, expected, "auto").words
