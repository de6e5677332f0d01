"""Which tokens may come next when the output must match a grammar.

Owns the table of token bytes and one matcher per constrained sequence; both end in llguidance. Must
not know sequences, plans or tensors: a mask is an array of bits. Used by the lead rank, whose masks
the other ranks are sent, and by the gateway's vetting process.

Why llguidance 1.9.1 and not xgrammar 0.2.8, on one core, ten schemas (tests/schemas.py), a
vocabulary of 49,152 tokens (in brackets 128,000):
    wheel        3.1 MB, needs nothing; 1.3 MB, and torch, transformers and 286 MB of triton
    import       0.03 s and 4 MB; 2.6 to 4 s and 241 MB
    compile      1.1 to 1.6 ms (1.1 to 1.5); 5 to 559 ms (1 to 1,986)
    mask, mean   10 us (33); 64 us (242).  p50 1.8 us; 1.2 us.  max 0.6 ms (2.5); 15.7 ms (74)
    hostile      fuel bounds most, a product of 150 automata filled 256 MB in 1.5 s;
                 no bound, 1,500 optional properties took over 12 s
    shipping     none, and no need at 1 ms a compilation; 12.6 MB of JSON for a long string
Texts of both were valid but for three of xgrammar's, with raw control characters in whitespace. So
neither may compile what a client wrote in a process that matters: see
gateway/sandbox/grammar_validator.py.
"""

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import llguidance
import msgspec
import numpy as np
from llguidance.gbnf_to_lark import any_to_lark
from numpy.typing import NDArray

from backend.structured_output.json_schema import declared_names
from backend.wire.sampling import Grammar

# Without it the library insists on its own tokenisation of text that cannot vary, and it has no
# tokenizer here. With it a token is allowed exactly if its bytes are.
_DIRECTIVE = '\n%llguidance {"no_forcing": true}\n'
_OTHER_DIRECTIVE = re.compile(r"%llguidance\b")
_EMPTY_DIRECTIVE = "%llguidance {}\n"

# Where any white space may stand between two parts of JSON: a space, or a line break with its
# indent. Models that may write more than that sometimes write nothing else.
_ANY_WHITESPACE = {"whitespace_flexible": True, "whitespace_pattern": r"( |\r?\n[ \t]{0,40})"}
# What models write by themselves: all in one line, a space after a comma and a colon, or none.
_ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
# One spelling for every text. Where names are left to the model, the library takes any but the
# texts of those that have a schema: it would take these under another spelling.
_ONE_SPELLING = {"json_allowed_escapes": 'nrbtf\\"'}
# Only an escape of this kind writes a control character that has no letter of its own.
_CONTROL_ESCAPE = re.compile(r"\\u00(?:[01]|7f)")

# A step serves every sequence, so no mask may cost more than some 15 ms: 14,000 lexer steps and
# 20,000 items a millisecond, by the library's own count. 20,000 lexer states are some 40 MB.
_LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=500_000,
    step_lexer_fuel=150_000,
    step_max_items=50_000,
    max_lexer_states=20_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
# A compiled grammar took 70 KB; the worst that passed vetting may take some 20 MB.
_MAX_COMPILED = 16

# What the library puts around the one line that its user needs.
_POSITION = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
_TOO_COMPLEX = re.compile(r"\bfuel\b|limits\.|too many expressions|TooComplex|; max is ")
_REGEX_FAULT = "\nerror: "
_PICTURE = re.compile(r"\s*(\d+ \||\^|\|)")
_ADVICE = re.compile(r"; following special tokens are available.*", re.DOTALL)
_MAX_REASON_LENGTH = 300
# Where it tells its user which of its options to set, or how it is built.
_IN_OUR_WORDS = {
    "oneOf constraints are not supported": "its branches are not known to exclude each other",
    "is not present in a registry": "it refers to what is not in the schema",
    "lookarounds not supported": "look-around and \\b are not supported",
}


# llguidance's keyword for how JSON is written; what clients put there is taken out.
OPTIONS = "x-guidance"


class GrammarError(ValueError):
    """A grammar that cannot be used, or has become too costly; one line, for the caller."""


class GrammarTable:
    """The tokens of one model, as bytes, and the grammars lately compiled for them."""

    def __init__(
        self,
        pieces: Sequence[bytes],
        eos_token_ids: Sequence[int],
        max_compiled: int = _MAX_COMPILED,
    ) -> None:
        """pieces: by token id; empty for special tokens, which no grammar may produce.

        eos_token_ids: allowed exactly where a grammar may end; their pieces count as empty.
        max_compiled: how many grammars are kept for requests that ask for the same.
        """
        num_tokens = max(len(pieces), *(token_id + 1 for token_id in eos_token_ids), 0)
        is_text = np.zeros(-(-num_tokens // 32) * 32, dtype=np.bool_)
        is_text[: len(pieces)] = [len(piece) > 0 for piece in pieces]
        is_text[list(eos_token_ids)] = False
        is_end = np.zeros_like(is_text)
        is_end[list(eos_token_ids)] = True
        self._may_come = _words(is_text)
        self._may_end = _words(is_text | is_end)
        self._tokens = _Tokens(pieces, eos_token_ids, num_tokens)
        wrapper = llguidance.TokenizerWrapper(self._tokens)
        self._tokenizer = llguidance.LLTokenizer(wrapper, eos_token=self._tokens.eos_token_ids)
        self._scratch = np.zeros(-(-self._tokenizer.vocab_size // 32), dtype=np.int32)
        self._max_compiled = max_compiled
        self._compiled: OrderedDict[Grammar, llguidance.LLMatcher] = OrderedDict()

    def matcher(self, grammar: Grammar) -> "Matcher":
        """Return a matcher at the beginning of an output. Raises GrammarError."""
        compiled = self._compiled.pop(grammar, None) or self._compile(grammar)
        self._compiled[grammar] = compiled
        if len(self._compiled) > self._max_compiled:
            self._compiled.popitem(last=False)
        may_come, may_end = self._may_come, self._may_end
        if grammar.special_token_ids:
            special = np.zeros(len(may_come) * 32, dtype=np.bool_)
            special[list(grammar.special_token_ids)] = True
            may_come, may_end = may_come | _words(special), may_end | _words(special)
        return Matcher(compiled.deep_copy(), may_come, may_end, self._scratch)

    def forget(self) -> None:
        """Keep no compiled grammar."""
        self._compiled.clear()

    def _compile(self, grammar: Grammar) -> llguidance.LLMatcher:
        text = to_lark(grammar) + _DIRECTIVE
        compiled = llguidance.LLMatcher(self._tokenizer, text, log_level=0, limits=_LIMITS)
        if compiled.is_error():
            raise GrammarError(_reason(compiled.get_error()))
        return compiled


class Matcher:
    """How far one output has come in its grammar."""

    def __init__(
        self,
        matcher: llguidance.LLMatcher,
        may_come: NDArray[np.int32],
        may_end: NDArray[np.int32],
        scratch: NDArray[np.int32],
    ) -> None:
        """may_come, may_end: bits of the tokens that any grammar may be given, before and at its
        end; Lark can name others. Those and scratch are the table's, [ceil(tokens / 32)]."""
        self._matcher = matcher
        self._may_come = may_come
        self._may_end = may_end
        self._scratch = scratch

    @property
    def is_free(self) -> bool:
        """Whether anything may come next: never said of a grammar."""
        return False

    @property
    def is_finished(self) -> bool:
        """Whether nothing but an end token may follow, or one has been accepted."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def may_end(self) -> bool:
        """Whether the output so far is one that the grammar describes."""
        return self._matcher.is_accepting()

    def knows(self, token_id: int) -> bool:
        """Whether the grammar may speak of a token: it is text, an end, or one that it names."""
        word, bit = divmod(token_id, 32)
        return word < len(self._may_end) and bool(self._may_end[word] >> bit & 1)

    def add_unknown(self, out: NDArray[np.int32]) -> None:
        """Set the bits of all tokens of which the grammar can say nothing; see mask()."""
        words = min(len(out), len(self._may_end))
        out[:words] |= ~self._may_end[:words]

    def mask(self, out: NDArray[np.int32]) -> None:
        """Set the bits of the tokens that may come next, lowest bit first, and clear the others.

        out: [ceil(V / 32)] int32; V may exceed the table, whose end the rest is cleared from.
        Raises GrammarError, and leaves `out` as it was, if nothing may or it costs too much to
        find out; the output cannot go on then.
        """
        scratch = self._scratch
        self._matcher.unsafe_compute_mask_ptr(scratch.ctypes.data, scratch.nbytes)
        if self._matcher.is_error():
            raise GrammarError(_reason(self._matcher.get_error()))
        possible = self._possible()
        words = min(len(out), len(possible))
        allowed = scratch[:words] & possible[:words]
        if not allowed.any():
            raise GrammarError("no token of the model's vocabulary can continue it")
        out[:words] = allowed
        out[words:] = 0

    def accept(self, token_id: int) -> bool:
        """Move past a token; the tokens of an output, from the first, make up its matcher again.

        False if it does not fit, or costs too much; the matcher is of no more use then.
        """
        word, bit = divmod(token_id, 32)
        possible = self._possible()
        if word >= len(possible) or not possible[word] >> bit & 1:
            return False
        return self._matcher.consume_token(token_id)

    def _possible(self) -> NDArray[np.int32]:
        return self._may_end if self._matcher.is_accepting() else self._may_come


def to_lark(grammar: Grammar) -> str:
    """Return a grammar of any kind in Lark's notation. Raises GrammarError.

    A JSON schema may ask with {"x-guidance": {"any_whitespace": true}} for line breaks and indents.
    Grammars in GBNF become Lark; Lark is left as it is.
    """
    match grammar.kind:
        case "json_schema":
            return f"start: %json {_json_schema(grammar.text)}"
        case "regex":
            # The library would overlook the backslash.
            if (len(grammar.text) - len(grammar.text.rstrip("\\"))) % 2:
                raise GrammarError("it ends in a backslash that escapes nothing")
            # "d": \d is 0 to 9 and not the digits of all scripts, which few have in mind.
            return f"start: /{llguidance.regex_to_lark(grammar.text, 'd')}/"
        case "choice":
            choices = msgspec.json.decode(grammar.text, type=list[str])
            return "start: " + " | ".join(map(_literal, choices))
        case "lark":
            text = _lark(grammar.text)
            if grammar.body is None:
                return text
            return f"{text}\nbody: %lark {{\n{to_lark(grammar.body)}\n}}\n"


def read_schema(text: str) -> dict[str, Any]:
    """Return a JSON schema from its text. Raises GrammarError."""
    try:
        schema = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise GrammarError(f"it is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise GrammarError("it is not an object")
    return schema


def _json_schema(text: str) -> str:
    schema = read_schema(text)
    return msgspec.json.encode(with_options(schema)).decode()


def with_options(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that says to the library how its JSON is written, in its own words.

    In other words it may say {"x-guidance": {"any_whitespace": true}}; what it says in the
    library's stays.
    """
    asked = schema.get(OPTIONS)
    asked = asked if isinstance(asked, dict) else {}
    if "whitespace_flexible" in asked:
        return schema
    options: dict[str, Any] = _ANY_WHITESPACE if asked.get("any_whitespace") is True else _ONE_LINE
    if declared_names(schema) and not _CONTROL_ESCAPE.search(msgspec.json.encode(schema).decode()):
        options = options | _ONE_SPELLING
    return {**schema, OPTIONS: options}


def _literal(text: str) -> str:
    # The notation has JSON's strings, but without a raw delete character.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


def _lark(text: str) -> str:
    try:
        lark = any_to_lark(text).removeprefix(_EMPTY_DIRECTIVE)
    except RecursionError:
        raise GrammarError("it nests too deep") from None
    except Exception as error:
        # The translation from GBNF raises bare Exceptions.
        raise GrammarError(_reason(str(error))) from error
    if _OTHER_DIRECTIVE.search(lark):
        raise GrammarError("'%llguidance' directives are the server's own")
    return lark


def _reason(complaint: str) -> str:
    """Cut what llguidance reports to the part about the grammar: one line."""
    if complaint.startswith("panic"):
        return "the grammar library cannot compile it"
    if complaint.startswith("NoExtension"):
        return "nothing matches it"
    if _TOO_COMPLEX.search(complaint):
        return "it is too complex"
    for words, reason in _IN_OUR_WORDS.items():
        if words in complaint:
            return reason
    if "regex parse error:" in complaint:
        return f"regex parse error: {complaint.rpartition(_REGEX_FAULT)[2].splitlines()[0]}"
    # Special tokens have no names here, and its debugging output stands between angle brackets.
    complaint = _ADVICE.sub("", _POSITION.sub("", complaint.split("\n<", 1)[0]))
    lines = complaint.splitlines()
    line = " ".join(line.strip() for line in lines if not _PICTURE.match(line))
    return line[:_MAX_REASON_LENGTH]


def _words(bits: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Pack flags into words of 32, the first into the lowest bit."""
    return np.packbits(bits, bitorder="little").view(np.int32)


class _Tokens:
    """What llguidance wants to know of a tokenizer."""

    bos_token_id = None

    def __init__(
        self, pieces: Sequence[bytes], eos_token_ids: Sequence[int], num_tokens: int
    ) -> None:
        # A model without an end still needs one here: an id that the mask never shows.
        self.eos_token_ids = list(eos_token_ids) or [num_tokens]
        self.eos_token_id = self.eos_token_ids[0]
        self.tokens = list(pieces)
        self.tokens += [b""] * (max(num_tokens, *self.eos_token_ids, 0) + 1 - len(pieces))
        ends = set(self.eos_token_ids)
        self.special_token_ids = [
            token_id for token_id, piece in enumerate(self.tokens) if not piece or token_id in ends
        ]
        for token_id in self.special_token_ids:
            # They need names; without one the library panics on a grammar that mentions it.
            self.tokens[token_id] = b"<|%d|>" % token_id

    def __call__(self, text: bytes) -> list[int]:
        """Tokenise nothing: see _DIRECTIVE."""
        return []
