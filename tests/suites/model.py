"""A tiny random model that has all that clients' suites ask for: a chat template, tools, infill.

It starts in seconds and writes nonsense, so what is tested is the surface: fields, shapes, limits.
An answer ends after some thirty tokens, because several are ends: no suite asks for short ones.
"""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tests.backend.factories import MIN_VOCAB_SIZE, tiny_config, write_tiny_llama

INFILL_TOKENS = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]
CHAT_TEMPLATE = """\
{% if tools %}<|im_start|>system
Call tools as <tool_call>{"name": ..., "arguments": {...}}</tool_call>.
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}\
{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}
<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def write_suite_model(path: Path, max_model_len: int = 2048, **overrides: Any) -> Path:
    """Write the model's directory and return it. overrides: fields of its ModelConfig."""
    size = tiny_config().vocab_size
    write_tiny_llama(
        path,
        max_model_len=max_model_len,
        vocab_size=size + len(INFILL_TOKENS),
        # These are merged tokens: every text can still be spelled without them.
        eos_token_ids=(2, *range(MIN_VOCAB_SIZE, size, 8)),
        **overrides,
    )
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.add_special_tokens(INFILL_TOKENS)
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return path
