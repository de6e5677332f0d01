"""A line about each field of requests that has a name of OpenAI's or vLLM's making.

Where a Struct's docstring has more to say, that goes before. Read by gateway/description/openapi.py
only.
"""

FIELDS = {
    "model": "Which model answers: one of the names that GET /v1/models lists.",
    "prompt": "One text, several, the token ids of one, or those of several.",
    "messages": "The conversation so far, oldest first.",
    "max_tokens": "Tokens of output at most, per choice.",
    "max_completion_tokens": "Tokens of output at most, per choice; by default what fits.",
    "temperature": "Logits are divided by it; 0 always takes the likeliest token. Default: "
    "the model's (see GET /v1/models), else 1.",
    "top_p": "Draw from the likeliest tokens that together have this probability. Default: "
    "the model's, else 1.",
    "top_k": "Draw from the k likeliest tokens; 0 and -1 keep all. Default: the model's, else all.",
    "min_p": "Leave out tokens less likely than this fraction of the likeliest.",
    "n": "How many answers to generate for each prompt. Default 1.",
    "stop": "Up to four texts that end the answer; they are not part of it.",
    "seed": "The same seed and request give the same answer.",
    "stream": "Send the answer as server-sent events while it is generated.",
    "stream_options": "What a stream tells beside the text.",
    "echo": "Put the prompt in front of the answer, with its scores if logprobs is given.",
    "frequency_penalty": "Taken from a token's logit for each time it is in the output.",
    "presence_penalty": "Taken from a token's logit once it is in the output.",
    "repetition_penalty": "Divides positive logits of tokens seen in prompt or output.",
    "no_repeat_ngram_size": "No sequence of so many tokens appears twice; 0 allows all.",
    "logit_bias": "Token ids and what is added to their logits.",
    "logprobs": "Report log-probabilities of the answer's tokens.",
    "top_logprobs": "So many alternatives beside each token; needs logprobs.",
    "prompt_logprobs": "So many alternatives beside each token of the prompt.",
    "response_format": "What the answer must be: any text, a JSON object, or JSON of a schema.",
    "structured_outputs": "What the answer must match: a schema, pattern, choice or grammar.",
    "tools": "Functions that the model may call, where its template knows tools.",
    "tool_choice": "Whether the model may, must or must not call a tool, or which one.",
    "parallel_tool_calls": "Whether one answer may hold several calls. Default true.",
    "ignore_eos": "Go on after the model's own end of text.",
    "stop_token_ids": "Tokens that end the answer as the model's own end does.",
    "include_stop_str_in_output": "Keep the text or token that ended the answer.",
    "skip_special_tokens": "Leave special tokens out of the text. Default true.",
    "add_special_tokens": "Put around a prompt what the model wants there.",
    "allowed_token_ids": "Draw from these tokens only.",
    "return_token_ids": "Report the token ids of prompt and answer.",
    "request_id": "Becomes the x-request-id of the answer.",
    "documents": "Texts for templates that have a place for them.",
    "add_generation_prompt": "End with what begins an assistant's message. Default true.",
    "continue_final_message": "Go on with the last message instead of answering it.",
    "chat_template_kwargs": "Variables of the model's template, such as enable_thinking.",
    "chat_template": "The name of one of the model's own templates; no other is run.",
    "functions": "What came before `tools`; the answer has one function_call at most.",
    "function_call": "What came before `tool_choice`: none, auto, or a function by name.",
    "modalities": 'Only ["text"].',
    "system": "What the model is told first; its blocks are put together.",
    "stop_sequences": "Texts that end the answer; they are not part of it.",
    "thinking": "Whether the model thinks first, where its template has a switch.",
    "enable_thinking": "The same as a boolean.",
    "reasoning": "How hard to think, whether at all, and for how many tokens.",
    "thinking_token_budget": "Tokens that a thought may have; it is ended then.",
    "thinking_budget": "Another name of thinking_token_budget.",
    "output_config": "How much effort, and what the answer must match.",
    "output_format": "What the answer must match: an older name of output_config.format.",
    "template": "Refused: the model's own template is used.",
    "context": "Refused: send the conversation to /api/chat.",
    "images": "Refused: the model reads text only.",
    "priority": "Lower runs earlier.",
    "cache_salt": "Prompts share cached prefixes only under equal salts.",
    "timeout": "Seconds for the whole request.",
    "mcp_servers": "Refused unless it is empty: this server runs no tools itself.",
    "container": "Refused: this server runs no tools itself.",
    "web_search_options": "Accepted, and named as ignored: this server runs no tools itself.",
} | dict.fromkeys(
    "user cache_control betas context_management diagnostics speed inference_geo user_profile_id "
    "compaction fallbacks fallback_credit_token billing_policy "
    "workspace_id metadata store service_tier safety_identifier prompt_cache_key "
    "prompt_cache_retention prompt_cache_options prediction verbosity moderation "
    "audio".split(),
    "Accepted, changes nothing.",
)
