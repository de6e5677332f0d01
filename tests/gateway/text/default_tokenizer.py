"""The default model's tokenizer, once for all files that only ask it: to load it takes 0.3 s."""

from functools import cache

from gateway.hub import default_model
from gateway.text.tokenizer import Tokenizer


@cache
def smollm() -> Tokenizer:
    return Tokenizer.load(default_model())
