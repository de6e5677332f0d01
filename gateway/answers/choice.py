"""One choice of a request: its token ids become text, tokens and a finish reason.

Owns the order of things per token: count it, list it, decode it, look for a stop string. Must not
know the pool, HTTP or JSON. Fed by gateway/answers/generation.py, frame by frame.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.wire.messages import FinishReason, SeqOutput, TokenLogprobs
from backend.wire.sampling import SamplingParams
from gateway.answers.repeated_names import check_names, guarded_names
from gateway.notations.thoughts import ThoughtCounter
from gateway.requests.parameters import special_stops
from gateway.requests.prompt import Prompt
from gateway.schema.sampling import SamplingFields
from gateway.text.stops import StopMatcher

if TYPE_CHECKING:
    from gateway.text.tokenizer import Detokenizer, Tokenizer


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a choice whose caller wants to see tokens.

    text_offset: characters of echo and answer before it; text that a stop string cut off counts.
    logprobs: None for the first token of a prompt and where none were wanted. is_end: it ended the
    sequence and is no text.
    """

    token_id: int
    text_offset: int
    logprobs: TokenLogprobs | None = None
    is_prompt: bool = False
    is_end: bool = False


@dataclass(slots=True)
class Choice:
    """One sequence of a request: its prompt and parameters, and its text as tokens come in.

    index: among all choices of the request, prompt-major.
    matcher: None if no stop string was given.
    prompt_logprobs_from: the choice of the same prompt that asks for its logprobs, for all.
    shows_end: the token that ended the sequence is text like any other.
    lists_tokens: push() returns tokens beside the text.
    stop_texts: stop strings that are special tokens, by their ids. thought: counts the tokens of
    thoughts; None where there are none.
    guarded_names: see repeated_names.py. num_cached_tokens: prompt tokens that came from the prefix
    cache.
    stop_reason: the stop string or stop token that ended it.
    """

    index: int
    prompt: Prompt
    params: SamplingParams
    detokenizer: "Detokenizer"
    matcher: StopMatcher | None = None
    shows_end: bool = False
    lists_tokens: bool = False
    prompt_logprobs_from: "Choice | None" = None
    thought: ThoughtCounter | None = None
    stop_texts: Mapping[int, str] = field(default_factory=dict)
    guarded_names: frozenset[str] = frozenset()
    num_tokens: int = 0
    num_cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    _text_offset: int = 0
    _num_prompt_listed: int = 0
    _guarded: list[str] = field(default_factory=list)  # the text so far, if it is to be checked

    @property
    def is_cut_short(self) -> bool:
        """Whether it ended where the model would have gone on."""
        return self.finish_reason is not FinishReason.STOP or self.stop_reason is not None

    @property
    def is_local(self) -> bool:
        """Whether the engine has nothing to add to it."""
        return self.params.max_tokens == 0 and self.params.prompt_logprobs is None

    @property
    def awaits_prompt_logprobs(self) -> bool:
        """Whether nothing of it may be written before another choice has the prompt's logprobs."""
        source = self.prompt_logprobs_from
        return source is not None and not source._has_prompt_logprobs

    def begin(self) -> tuple[str, Sequence[Token]]:
        """Return the text and the tokens that are known before the engine is asked."""
        self._text_offset = len(self.prompt.echo)
        if self.params.prompt_logprobs is None and self.prompt_logprobs_from is None:
            return self.prompt.echo, ()
        return self.prompt.echo, self.prompt_tokens([None])

    def push(self, output: SeqOutput) -> tuple[str, Sequence[Token]]:
        """Return what `output` adds, and set finish_reason if it is the last.

        Tokens after a stop string are neither text nor counted.
        Raises RepeatedName at the end of an answer that breaks its schema.
        """
        self.num_cached_tokens = self.num_cached_tokens or output.num_cached_tokens
        is_watched = self.matcher is not None or self.lists_tokens or self.guarded_names
        if not is_watched and output.finish_reason is None and not output.prompt_logprobs:
            # What follows would do the same, in twice the time: nearly all frames end here.
            text, thought = "", self.thought
            for token_id in output.token_ids:
                piece = self.detokenizer.push(token_id)
                if thought is not None and not thought.is_over:
                    thought.push(piece)
                text = text + piece if text else piece
            self.num_tokens += len(output.token_ids)
            return text, ()
        tokens = self.prompt_tokens(output.prompt_logprobs) if output.prompt_logprobs else []
        pieces = []
        # The token that ended the sequence is counted and listed, but as a rule it is not text.
        is_ended = output.finish_reason is FinishReason.STOP and not self.shows_end
        num_texts = len(output.token_ids) - is_ended
        for position, token_id in enumerate(output.token_ids):
            self.num_tokens += 1
            if self.lists_tokens:
                logprobs = None if self.params.logprobs is None else output.logprobs[position]
                is_end = position >= num_texts
                tokens.append(Token(token_id, self._text_offset, logprobs, is_end=is_end))
            if position < num_texts:
                text = self.detokenizer.push(token_id)
                if self.thought is not None:
                    self.thought.push(text)
                pieces.append(self._cut(text))
                if self.stop_reason is not None:
                    break
        if output.finish_reason is not None and self.stop_reason is None:
            pieces.append(self._cut(self.detokenizer.flush()))
            if self.stop_reason is None:
                if self.matcher is not None:
                    pieces.append(self.matcher.flush())
                self.stop_reason = self._stop_reason(output.stop_token_id)
        is_cut = self.matcher is not None and self.matcher.found is not None
        self.finish_reason = FinishReason.STOP if is_cut else output.finish_reason
        if self.guarded_names:
            self._guarded += pieces
            if self.finish_reason is FinishReason.STOP:
                text = "".join(self._guarded)
                said = text if self.thought is None else self.thought.behind(text)
                check_names(said, self.guarded_names)
        return "".join(pieces), tokens

    def prompt_tokens(self, prompt_logprobs: Iterable[TokenLogprobs | None]) -> list[Token]:
        """List the next prompt tokens."""
        prompt = self.prompt
        tokens: list[Token] = []
        for logprobs in prompt_logprobs:
            position = self._num_prompt_listed
            offset = prompt.offsets[position] if prompt.offsets else 0
            tokens.append(Token(prompt.token_ids[position], offset, logprobs, is_prompt=True))
            self._num_prompt_listed += 1
        return tokens

    @property
    def _has_prompt_logprobs(self) -> bool:
        return self._num_prompt_listed == len(self.prompt.token_ids)

    def _stop_reason(self, token_id: int | None) -> str | int | None:
        """Return what the token that ended it was asked for as: a text, or an id."""
        return token_id if token_id is None else self.stop_texts.get(token_id, token_id)

    def _cut(self, text: str) -> str:
        """Pass new text on up to a stop string, and note that."""
        if self.lists_tokens:
            self._text_offset += len(text)
        if self.matcher is None or self.num_tokens <= self.params.min_tokens:
            return text
        text = self.matcher.push(text)
        self.stop_reason = self.matcher.found
        return text


def make_choices(
    prompts: Sequence[Prompt],
    params: Sequence[Sequence[SamplingParams]],
    request: SamplingFields,
    tokenizer: "Tokenizer",
    shown_ids: frozenset[int] = frozenset(),
) -> list[Choice]:
    """Return the choices of a request, prompt by prompt. params: by prompt, one a choice.

    shown_ids: special tokens that whoever reads the text must see.
    """
    stop = request.stop_strings
    keeps_stop = bool(request.include_stop_str_in_output)
    skips = request.skips_special_tokens
    stop_texts = {id: text for text, id in special_stops(request, tokenizer).items()}
    if keeps_stop:
        shown_ids |= frozenset(stop_texts)
    choices: list[Choice] = []
    guarded = guarded_names(params[0][0].grammar) if params else frozenset()
    for prompt, params_of_prompt in zip(prompts, params, strict=True):
        first = None
        before = prompt.token_ids if prompt.is_continued else ()
        for own in params_of_prompt:
            choice = Choice(
                len(choices),
                prompt,
                own,
                tokenizer.detokenizer(before, skip_special_tokens=skips, shown_ids=shown_ids),
                StopMatcher(stop, keeps_stop=keeps_stop) if stop else None,
                shows_end=keeps_stop,
                lists_tokens=own.logprobs is not None or bool(request.return_token_ids),
                prompt_logprobs_from=first,
                guarded_names=guarded,
                stop_texts=stop_texts,
            )
            choices.append(choice)
            if own.prompt_logprobs is not None:
                first = choice
    return choices
