#!/bin/sh
# transformers takes keys whose value is None out of a message before it runs the chat template. OpenAI's own
# form of an assistant's tool call has `content: null`, and published templates ask for message.content
# without asking whether it is there: Qwen3's, QwQ's, DeepSeek-R1-Distill's, Granite 3.3's and others.
#
# Why it matters to a server: an agent's second turn, which repeats the tool call as it was answered, cannot
# be rendered by the model's own template, though the same conversation with `content: ""` can. Jinja alone
# would have printed None or raised a TypeError; what is seen is that the message has no such attribute.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install \
    transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6
# Its sources bring templates as their models' publishers have them.
"$folder/venv/bin/pip" --quiet --disable-pip-version-check download --no-deps --no-binary llama-cpp-python \
    --dest "$folder" llama-cpp-python==0.3.36
tar -xzf "$folder/llama_cpp_python-0.3.36.tar.gz" -C "$folder"
"$folder/venv/bin/python" - "$folder"/llama_cpp_python-0.3.36/vendor/llama.cpp/models/templates <<'PYTHON'
import pathlib
import sys

import jinja2
import tokenizers
import transformers

print("transformers", transformers.__version__, "jinja2", jinja2.__version__)
backend = tokenizers.Tokenizer(tokenizers.models.BPE())
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)


def renders(template, content):
    call = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    messages = [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
    ]
    try:
        return bool(tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False))
    except (jinja2.UndefinedError, TypeError) as error:
        return str(error)


folder = pathlib.Path(sys.argv[1])
fail = {}
for path in sorted(folder.glob("*.jinja")):
    template = path.read_text()
    try:
        if renders(template, "") is True and (reason := renders(template, None)) is not True:
            fail[path.stem] = reason
    except jinja2.TemplateError:
        pass  # it knows no tools
print('guess: content None renders where content "" does')
print("seen: it does not in", ", ".join(fail))
assert fail.get("Qwen-Qwen3-0.6B") == "'dict object' has no attribute 'content'", fail
assert len(fail) >= 5, fail
PYTHON
