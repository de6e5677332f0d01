"""How one choice is sampled, as it travels from the gateway to the ranks.

Ranges are declared once, on the aliases; `gateway/schema.py` reuses them for the public fields.
Every rank holds the same SamplingParams for a row and so makes the same decision.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
TopK = Annotated[int, Meta(ge=-1)]
MinP = Annotated[float, Meta(ge=0, le=1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
MaxTokens = Annotated[int, Meta(ge=0)]


class SamplingParams(msgspec.Struct, frozen=True, array_like=True):
    """What decides the next token of one choice, and when the choice ends.

    temperature: 0 is greedy; logits are divided by it otherwise.
    top_k: keep the k most likely tokens; 0 and -1 keep all.
    seed, choice: with the output position, the key of the draw. `choice` is the index among `n`.
    max_tokens: output tokens, the ones before a resumption included.
    """

    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    top_k: TopK = 0
    min_p: MinP = 0.0
    seed: Seed = 0
    choice: Annotated[int, Meta(ge=0)] = 0
    max_tokens: MaxTokens = 16
    ignore_eos: bool = False

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0.0
