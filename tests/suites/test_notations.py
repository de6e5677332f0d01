"""Published chat templates, as llama.cpp collects them: what a template writes is read back.

The template of a family is what its models were trained on, so its rendering of an assistant's
calls and thoughts is what they write.
"""

import json
from itertools import takewhile
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from gateway.notations.compiled import CompiledNotation, compiled
from gateway.notations.library import builtin, call_notation, reasoning_notation
from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON
from tests.gateway.notations.parsing import called, parse
from tests.gateway.notations.recording import OTHER, SCHEMA, THOUGHT, TOOLS, WEATHER
from tests.suites.environment import sources

pytestmark = pytest.mark.slow

# Families, the notation that is found in their templates, and how many calls these take.
FAMILIES = {
    "Qwen-Qwen2.5-7B-Instruct": ("hermes", "", 2),
    "Qwen-Qwen3-0.6B": ("hermes", "think", 2),
    "Qwen3-Coder": ("qwen3-coder", "", 2),
    "Qwen3.5-4B": ("qwen3-coder", "think", 2),
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("qwen3-coder", "think", 2),
    "GLM-4.6": ("glm", "think", 2),
    "google-gemma-4-31B-it": ("gemma4", "gemma4", 2),
    "openai-gpt-oss-120b": ("harmony", "harmony", 1),
    "deepseek-ai-DeepSeek-V3.1": ("deepseek-v3.1", "think", 2),
    "Mistral-Small-3.2-24B-Instruct-2506": ("mistral", "", 2),
    "mistralai-Ministral-3-14B-Reasoning-2512": ("mistral", "mistral-think", 2),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral-array", "", 2),
    "meta-llama-Llama-3.1-8B-Instruct": ("llama3-json", "", 1),
    "meta-llama-Llama-3.2-3B-Instruct": ("llama3-json", "", 1),
    "ibm-granite-granite-4.0": ("hermes", "", 2),
    "moonshotai-Kimi-K2": ("kimi-k2", "", 2),
    "Kimi-K3": ("kimi-k3", "kimi-k3", 2),
    "MiniMax-M1": ("minimax-m1", "", 2),
    "MiniMax-M2": ("minimax-m2", "think", 2),
    "MiniMax-M3": ("minimax-m3", "minimax-m3", 2),
    "Apriel-1.6-15b-Thinker-fixed": ("apriel", "apriel", 2),
    "Cohere2MoE": ("command-a", "command-a", 2),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": ("command-a", "command-a", 2),
    "Apertus-8B-Instruct": ("apertus", "apertus", 2),
    "ByteDance-Seed-OSS": ("seed-oss", "seed-oss", 2),
    "deepseek-ai-DeepSeek-V3.2": ("deepseek-v3.2", "think", 2),
    "deepseek-ai-DeepSeek-V4": ("deepseek-v4", "think", 2),
    "deepseek-ai-DeepSeek-V4-Flash-0731": ("deepseek-v4", "think", 2),
    "LFM2.5-8B-A1B": ("lfm2", "think", 2),
    "upstage-Solar-Open-100B": ("solar", "solar", 2),
    "GigaChat3-10B-A1.8B": ("gigachat3", "", 1),
    "GigaChat3.1-10B-A1.8B": ("gigachat3.1", "", 1),
    "meetkai-functionary-medium-v3.1": ("functionary-v3.1", "", 2),
    "openbmb-MiniCPM5-1B": ("minicpm5", "think", 2),
    "inclusionai-ling-3.0-flash": ("glm", "think", 2),
    "poolside-Laguna-XS.2": ("glm", "think", 2),
    "Spark2.5": ("glm", "think", 2),
    "StepFun3.5-Flash": ("qwen3-coder", "think", 2),
    "Reka-Edge": ("hermes", "think", 2),
    "muse-glimmer": ("muse", "muse", 2),
    "meetkai-functionary-medium-v3.2": ("functionary-v3.2", "", 2),
}
# It puts arguments into a text as they are.
WANTS_JSON = "meetkai-functionary-medium-v3.2"
SHOWN_TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": SCHEMA}}
    for name in TOOLS
]
ENDS = (
    "<|im_end|>", "<|tool_response>", "<|call|>", "<｜end▁of▁sentence｜>", "</s>",  # noqa: RUF001
    "<|eot_id|>", "<|end_of_text|>", "<|end_of_msg|>", "<end_of_sentence>", "[e~[", "<|eom_id|>",
    "<|END_OF_TURN_TOKEN|>", "<seed:eos>", "<|calls|>", "<|message_sep|>", "<|role_end|>",
    "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "</assistant>", "<sep>",
    "<|eot|>",
)  # fmt: skip


def rendered(source: str, messages: list[dict[str, Any]], *, prompts: bool) -> str:
    texts, _ = render_jinja_template(
        [messages],
        tools=SHOWN_TOOLS,
        chat_template=source,
        add_generation_prompt=prompts,
        bos_token="<s>",
        eos_token="</s>",
        enable_thinking=True,
    )
    text: str = texts[0]
    return text


def output_of(source: str, calls: list[Any], *, in_json: bool = False) -> tuple[str, str]:
    """Return a prompt, and what a model writes after it. in_json: arguments are given so."""
    if in_json:
        calls = [(name, json.dumps(given)) for name, given in calls]
    told = [
        {"id": f"call0000{n}", "type": "function", "function": {"name": name, "arguments": given}}
        for n, (name, given) in enumerate(calls)
    ]
    thoughts = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), THOUGHT)
    question = {"role": "user", "content": "Weather?"}
    answer = {"role": "assistant", "content": "", "tool_calls": told, **thoughts}
    prompt = rendered(source, [question], prompts=True)
    whole = rendered(source, [question, answer], prompts=False)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False))
    output = whole[len(list(same)) :].rstrip("\n")
    end = next((end for end in sorted(ENDS, key=len, reverse=True) if output.endswith(end)), "")
    return prompt, output.removesuffix(end)


def ends_in_thought(prompt: str, notation: CompiledNotation) -> bool:
    reasoning = notation.reasoning
    return reasoning is not None and prompt.rstrip().endswith(reasoning.open)


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_that_templates_write_are_read(family: str) -> None:
    name, reasoning, num_calls = FAMILIES[family]
    folder = sources("llama-cpp-python", LLAMA_CPP_PYTHON) / "vendor/llama.cpp/models/templates"
    source = (folder / f"{family}.jinja").read_text()
    found = call_notation("auto", [source], None)
    thought = reasoning_notation("auto", [source], None)
    assert found is builtin(name)
    assert thought is (builtin(reasoning) if reasoning else None)
    calls = [WEATHER, OTHER][:num_calls]
    prompt, output = output_of(source, calls, in_json=family == WANTS_JSON)
    notation = compiled(found, thought)
    answer = parse(list(output), notation, TOOLS, is_thinking=ends_in_thought(prompt, notation))
    assert called(answer) == tuple(calls)
    assert answer.text == ""
    assert answer.reasoning in ("", THOUGHT)  # some templates drop thoughts of the past
