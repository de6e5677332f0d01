"""A chat template that knows tools, for the default model, whose own knows none.

Calls are written and answered as Hermes models do it, in ChatML.
"""

TOOL_TEMPLATE = """\
{%- if tools -%}
<|im_start|>system
Call a function by writing <tool_call>{"name": ..., "arguments": {...}}</tool_call>. Functions:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{{ call.function | tojson }}</tool_call>
{%- endfor -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""
