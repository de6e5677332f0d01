#!/bin/sh
# A JSON schema's `multipleOf: 0.25` becomes a grammar that knows each fraction in one spelling: with two
# digits. llguidance takes "0.50" and no "0.5", which every validator and every JSON writer takes.
#
# Why it matters to a server: structured output is a mask over tokens, so what a grammar leaves out cannot be
# said. A model that writes numbers as people do is forced into "0.50" at the best, and cut off from the
# token it wanted at the worst; and a client that compares texts finds numbers no encoder would write. A
# server must widen the schema or say that this keyword is not enforced.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install llguidance==1.9.1 jsonschema==4.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version

import jsonschema
from llguidance import LLMatcher, LLTokenizer

print("llguidance", version("llguidance"), "jsonschema", version("jsonschema"))
schema = {"type": "number", "multipleOf": 0.25}
tokenizer = LLTokenizer("byte")
grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))


def takes(text: str) -> bool:
    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    ids = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


print("guess: what a validator takes, the grammar takes")
seen = {}
for text in ("1", "0.25", "0.5", "0.50", "1.5", "0.3"):
    valid = jsonschema.Draft202012Validator(schema).is_valid(json.loads(text))
    seen[text] = (valid, takes(text))
    print(f"seen: {text}: validator {seen[text][0]}, grammar {seen[text][1]}")
assert seen["0.25"] == seen["0.50"] == seen["1"] == (True, True)
assert seen["0.3"] == (False, False)
assert seen["0.5"] == seen["1.5"] == (True, False)
PYTHON
