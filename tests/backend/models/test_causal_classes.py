"""Every causal class of transformers is ours, or served by its code, or refused in words.

Never a wrong answer, and never a traceback. `causal_classes.py` prints the table anew.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.backend.models.causal_classes import (
    TOLERANCE,
    classes,
    refusal_by_source,
    try_class,
    write_model,
)

pytestmark = pytest.mark.slow

# Fields of some classes, where tiny models have others than causal_classes.SMALL.
OWN: dict[str, dict[str, Any]] = {
    # Keys are multiplied out for every head.
    name: {"num_key_value_heads": 6}
    for name in (
        "AXK1ForCausalLM",
        "AXK2ForCausalLM",
        "DeepseekV32ForCausalLM",
        "GlmMoeDsaForCausalLM",
        "LongcatFlashForCausalLM",
        "MiniCPM3ForCausalLM",
    )
}
KEEPS_STATE = "keeps a state of its own"
LETS_NOBODY = "lets nobody else attend"
SEES_AHEAD = "lets tokens see those after them"
# Refused by what their source says.
BY_SOURCE = {
    KEEPS_STATE: """
        BailingHybridForCausalLM DeepseekV4ForCausalLM FalconMambaForCausalLM JambaForCausalLM
        KimiLinearForCausalLM Lfm3ForCausalLM MambaForCausalLM OlmoHybridForCausalLM
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
    CTRLLMHeadModel Cohere2MoeForCausalLM Emu3ForCausalLM ExaoneMoeForCausalLM FlexOlmoForCausalLM
    FlintForCausalLM GraniteMoeSWAForCausalLM HYV3ForCausalLM Kolibri1ForCausalLM
    LagunaForCausalLM MiniCPM3ForCausalLM MiniMaxM3VLForCausalLM ModernBertDecoderForCausalLM
    NanoChatForCausalLM PersimmonForCausalLM PhimoeForCausalLM
"""
# Refused once the class is built. Tiny encoders have no is_decoder, as their defaults are.
REFUSED = {
    "'chunked_attention' is not served": "Llama4ForCausalLM",
    "'indexed_attention' is not served": """
        AXK2ForCausalLM DeepseekV32ForCausalLM GlmMoeDsaForCausalLM HYV4ForCausalLM
    """,
    "does not attend once in each of its": """
        HrmTextForCausalLM LongcatFlashForCausalLM MiniMaxForCausalLM
    """,
    "query and 6 KV heads of 16, expected were": "JetMoeForCausalLM MiMoV2FlashForCausalLM",
    LETS_NOBODY: "Inkling2ForCausalLM InklingForCausalLM OpenAIGPTLMHeadModel",
    SEES_AHEAD: """
        BertGenerationDecoder CamembertForCausalLM Data2VecTextForCausalLM ElectraForCausalLM
        ErnieForCausalLM RoCBertForCausalLM RobertaPreLayerNormForCausalLM XLMRobertaForCausalLM
        XLMRobertaXLForCausalLM
    """,
}
# The program of causal_classes.py tries these as well; what becomes of them is not held yet.
NOT_HELD = """
    BertLMHeadModel CohereCompassForCausalLM DbrxForCausalLM DiffLlamaForCausalLM DogeForCausalLM
    Dots3NoteForCausalLM FuyuForCausalLM Gemma3nForCausalLM Gemma3nForConditionalGeneration
    Gemma4AssistantForCausalLM Gemma4UnifiedAssistantForCausalLM GotOcr2ForConditionalGeneration
    MllamaForCausalLM MoshiForCausalLM MossTranscribeDiarizeForConditionalGeneration
    Phi4MultimodalForCausalLM RobertaForCausalLM VaultGemmaForCausalLM XmodForCausalLM
"""


def by_class(tables: dict[str, str]) -> dict[str, str]:
    """Return class -> words."""
    return {name: words for words, names in tables.items() for name in names.split()}


def test_every_class_stands_in_a_table() -> None:
    listed = [*by_class(BY_SOURCE), *by_class(REFUSED), *SERVED.split(), *NOT_HELD.split()]
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


@pytest.mark.parametrize("name", by_class(REFUSED))
def test_refusal_names_what_is_missing(name: str, tmp_path: Path) -> None:
    expected = write_model(tmp_path, name, OWN.get(name, {}))
    assert by_class(REFUSED)[name] in try_class(tmp_path, expected, "auto").words
