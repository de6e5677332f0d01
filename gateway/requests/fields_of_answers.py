"""Fields that decide what is answered, in the words of the dialects and of other servers.

One that a dialect does not know would be lost where a client writes another's words. Tables only;
foreign_fields.py refuses what they list.
"""

from typing import Any

# Name -> the values that ask for nothing, null apart: 0 and false may well mean something.
_OFF: tuple[Any, ...] = (False, "", [], {})
OF_ANSWERS: dict[str, tuple[Any, ...]] = {
    # What is asked.
    **dict.fromkeys(("messages", "prompt", "input", "inputs", "documents"), _OFF),
    **dict.fromkeys(("system", "instructions", "template", "context", "safe_prompt"), _OFF),
    **dict.fromkeys(("previous_response_id", "conversation", "prompt_mode"), _OFF),
    **dict.fromkeys(("chat_template", "chat_template_kwargs", "raw"), _OFF),
    "continue_final_message": _OFF,
    "add_generation_prompt": (True,),
    "truncate_prompt_tokens": (-1,),
    # What an answer must be, and where it ends.
    **dict.fromkeys(("format", "output_format", "output_config", "text", "json_object"), _OFF),
    **dict.fromkeys(("response_schema", "structured_outputs", "extra_body"), _OFF),
    **dict.fromkeys(("guided_json", "guided_regex", "guided_choice", "guided_grammar"), _OFF),
    "response_format": (*_OFF, {"type": "text"}),
    **dict.fromkeys(("stop", "stop_token_ids", "include_stop_str_in_output"), _OFF),
    **dict.fromkeys(("bad_words", "allowed_token_ids", "ignore_eos"), _OFF),
    **dict.fromkeys(("min_tokens", "no_repeat_ngram_size"), (0,)),
    "max_tokens": (-1,),
    "n": (1,),
    "background": _OFF,
    # How tokens are drawn.
    **dict.fromkeys(("options", "parameters", "generation_config", "logit_bias"), _OFF),
    **dict.fromkeys(("temperature", "seed", "random_seed", "samplers"), ()),
    **dict.fromkeys(("top_p", "typical", "repetition_penalty"), (1,)),
    **dict.fromkeys(("min_p", "presence_penalty", "frequency_penalty"), (0,)),
    "top_k": (0, -1),
    "penalty_last_n": (0, -1),
    "do_sample": (True,),
    # What is told beside the text.
    **dict.fromkeys(("logprobs", "top_logprobs", "n_probs", "return_full_text"), (0, False)),
    "prompt_logprobs": (),
    "modalities": ([], ["text"]),
    # Thoughts.
    **dict.fromkeys(("think", "thinking", "enable_thinking", "thinking_mode"), ()),
    **dict.fromkeys(("reasoning_effort", "thinking_effort", "effort"), ()),
    **dict.fromkeys(("thinking_budget", "thinking_token_budget", "reasoning_budget"), (-1,)),
    **dict.fromkeys(("max_thinking_tokens", "max_reasoning_tokens"), (-1,)),
    **dict.fromkeys(("reasoning", "thinking_config"), _OFF),
    **dict.fromkeys(("include_reasoning", "separate_reasoning", "reasoning_split"), (True,)),
    "reasoning_format": ("auto", "deepseek"),
    # Tools.
    **dict.fromkeys(("tool_choice", "function_call"), ("auto",)),
    **dict.fromkeys(("parallel_tool_calls", "parse_tool_calls"), (True,)),
    **dict.fromkeys(("mcp_servers", "plugins", "container"), _OFF),
    **dict.fromkeys(("web_search_options", "max_tool_calls"), ()),
}
# Names of one meaning: who sends the wrong one is told the right one.
SAME = (
    ("stop", "stop_sequences"),
    ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"),
    ("messages", "input", "prompt", "text"),
    ("system", "instructions"),
    ("response_format", "text", "output_config", "format"),
    ("structured_outputs", "output_config", "format"),
    ("thinking", "think", "enable_thinking", "thinking_mode", "thinking_config"),
    ("reasoning_effort", "reasoning", "output_config", "think", "effort", "thinking_effort"),
    ("thinking_token_budget", "thinking", "thinking_budget", "reasoning_budget"),
    ("thinking_token_budget", "thinking", "max_thinking_tokens", "max_reasoning_tokens"),
    ("seed", "random_seed"),
    ("temperature", "sampling_temperature"),
    ("top_p", "sampling_topp"),
    ("top_k", "sampling_topk"),
)
