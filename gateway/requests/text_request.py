"""What a request for text means, whichever dialect it came in.

Every dialect reads its bodies into a TextRequest, and nothing below the dialects knows more of
them. Knows no tokens: encoded_request.py makes a prompt of it, parameters.py what is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.schema.messages import ConversationFields, Tools
from gateway.schema.sampling import SamplingFields


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainPrompts:
    """Texts, or the token ids of texts, to go on with.

    suffix: what comes after the answer. is_echoed: each prompt is put in front of its answers.
    """

    prompts: Sequence[str | list[int]]
    suffix: str = ""
    is_echoed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The functions that the model is told of, at least one.

    is_required: the answer must consist of calls. name: of the one function to call then; "" for
    any. allows_parallel: without it, the first call is the only one. schema_field: where the
    dialect has the schema of a tool's arguments, for refusals; {} is the tool's number, or what
    places has for that. allowed: the names of those that may be called; empty for all. untold: the
    names of those that the model learns of in the conversation, if at all.
    """

    tools: Tools
    is_required: bool = False
    name: str = ""
    allows_parallel: bool = True
    schema_field: str = "tools[{}].function.parameters"
    places: Sequence[str] = ()
    allowed: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()

    @property
    def told(self) -> Tools:
        """Those that the template shows."""
        return [tool for tool in self.tools if tool.function.name not in self.untold]

    def schema_place(self, number: int) -> str:
        """Return where the request has the schema of a tool's arguments."""
        return self.schema_field.format(self.places[number] if self.places else number)

    def may_call(self, name: str) -> bool:
        """Whether the function of that name may be called."""
        if self.name:
            return name == self.name
        return not self.allowed or name in self.allowed

    @property
    def is_held(self) -> bool:
        """Whether a call that the model chooses to make must be of some form."""
        return bool(self.allowed) or any(tool.function.strict for tool in self.tools)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """A request for text that has been checked.

    source: what is answered. fields: how tokens are drawn, when the answer ends, and how the
    request is treated, in words that all dialects share; None where the model's own values count.
    max_tokens: of output, per choice; None for as many as there is room for.
    takes_what_fits: more than there is room for is no mistake.
    num_candidates: sequences per prompt, of which fields.num_choices are answered.
    logprobs, prompt_logprobs: alternatives beside each token; None for no log-probabilities.
    max_thought_tokens: of what the model thinks before it answers; None for no limit.
    tools: None where the model must not call any. is_streamed: the answer is sent as it comes.
    prompt_field, max_tokens_field: what the dialect calls them, for refusals.
    """

    source: PlainPrompts | ConversationFields
    fields: SamplingFields
    max_tokens: int | None
    takes_what_fits: bool = False
    num_candidates: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    tools: ToolUse | None = None
    max_thought_tokens: int | None = None
    is_streamed: bool = False
    prompt_field: str = "messages"
    max_tokens_field: str = "max_tokens"

    @property
    def is_ranked(self) -> bool:
        """Whether the best candidates are answered, not all."""
        return self.num_candidates > self.fields.num_choices
