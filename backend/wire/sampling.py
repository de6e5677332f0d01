"""How one choice is sampled, as it travels from the gateway to the ranks.

Ranges are declared once, on the aliases; `gateway/schema` reuses them for the public fields.
Every rank holds the same SamplingParams for a row and so makes the same decision.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
TopK = Annotated[int, Meta(ge=-1)]
MinP = Annotated[float, Meta(ge=0, le=1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
MaxTokens = Annotated[int, Meta(ge=0)]
MinTokens = Annotated[int, Meta(ge=0)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
# A logit divided by less leaves float32, with a low temperature on top.
RepetitionPenalty = Annotated[float, Meta(ge=0.01, le=100)]
NgramSize = Annotated[int, Meta(ge=0, le=1000)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
NumLogprobs = Annotated[int, Meta(ge=0, le=20)]


class Grammar(msgspec.Struct, frozen=True, array_like=True):
    """What the output must match. text: a JSON schema, a regular expression, a JSON array of
    choices, or a grammar in Lark's notation, by kind. A schema whose keywords need not all be
    enforced carries `"x-guidance": {"lenient": true}`.

    body: what the rule `body` of a Lark grammar is, which that only mentions.
    special_token_ids: special tokens that a Lark grammar may produce by their ids.
    """

    kind: Literal["json_schema", "regex", "choice", "lark"]
    text: str
    body: "Grammar | None" = None
    special_token_ids: tuple[TokenId, ...] = ()


class Thought(msgspec.Struct, frozen=True, array_like=True):
    """A thought that an output begins with, or may begin with. A grammar holds what comes after it.

    closing: the tokens that spell its end, which are forced after max_tokens; closing_text: what
    they spell. opening: the tokens that begin it; none if the prompt ends within it.
    space_ids: tokens of white space, which may come between it and what a grammar holds.
    calls: a Lark grammar of any text that holds the calls within it, from their mark on. The
    thought obeys it, and so does all that follows one with a call in it. It can end wherever no
    call is open.
    closes_alone: an output without a thought may begin with what would end one.
    """

    closing: tuple[TokenId, ...]
    closing_text: str
    opening: tuple[TokenId, ...] = ()
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    space_ids: tuple[TokenId, ...] = ()
    calls: Grammar | None = None
    closes_alone: bool = False


class SamplingParams(msgspec.Struct, frozen=True, array_like=True):
    """What decides the next token of one choice, and when the choice ends.

    temperature: 0 is greedy; logits are divided by it otherwise.
    top_k: keep the k most likely tokens; 0 and -1 keep all.
    seed, choice: with the output position, the key of the draw. `choice` is the index among `n`.
    max_tokens: output tokens, the ones before a resumption included; 0 only to score a prompt.
    min_tokens: output tokens before which no end-of-sequence or stop token is drawn.
    stop_token_ids: end the sequence as its own end tokens do, ignore_eos or not.
    presence_penalty, frequency_penalty: taken from the logits of output tokens, once and by count.
    repetition_penalty: divides positive and multiplies negative logits of prompt and output tokens.
    no_repeat_ngram_size: no n-gram of prompt and output is drawn twice; 0 allows all.
    logit_bias: (token, bias) pairs, added first. allowed_token_ids: None allows all.
    bad_words: token sequences that are not completed.
    thought: what the output begins with; None where nothing is known or held of it.
    logprobs, prompt_logprobs: how many of the best alternatives to score beside each output or
    prompt token; None scores nothing.
    """

    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    top_k: TopK = 0
    min_p: MinP = 0.0
    seed: Seed = 0
    choice: Annotated[int, Meta(ge=0)] = 0
    max_tokens: MaxTokens = 16
    ignore_eos: bool = False
    min_tokens: MinTokens = 0
    stop_token_ids: tuple[TokenId, ...] = ()
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    no_repeat_ngram_size: NgramSize = 0
    logit_bias: tuple[tuple[TokenId, Bias], ...] = ()
    allowed_token_ids: tuple[TokenId, ...] | None = None
    bad_words: tuple[tuple[TokenId, ...], ...] = ()
    logprobs: NumLogprobs | None = None
    prompt_logprobs: NumLogprobs | None = None
    grammar: Grammar | None = None
    thought: Thought | None = None

    @property
    def looks_back(self) -> bool:
        """Whether a rule needs the tokens so far."""
        return bool(
            self.presence_penalty
            or self.frequency_penalty
            or self.repetition_penalty != 1
            or self.no_repeat_ngram_size
            or self.bad_words
        )

    @property
    def keeps_logits(self) -> bool:
        """Whether a token is drawn from the model's logits as they are.

        Only what is named here may differ from the defaults: a parameter that nobody has thought of
        costs time, no more.
        """
        rest = msgspec.structs.replace(
            self, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=0, choice=0, max_tokens=16,
            ignore_eos=False, stop_token_ids=(), logprobs=None, prompt_logprobs=None,
        )  # fmt: skip
        return rest == SamplingParams()

    @property
    def is_greedy(self) -> bool:
        """Whether the token with the largest logit is drawn, and nothing else is read of them."""
        return self.keeps_logits and self.temperature == 0 and self.logprobs is None
