"""A pool played by hand, a tokenizer of bytes and an ASGI client, for tests of the HTTP side.

No sockets, no processes, no model: a test decides when which sequence gets which token, when the
client reads, and when it leaves.
"""

import asyncio
import codecs
import time
from array import array
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import msgspec
import pytest
from starlette.types import ASGIApp, Message

from backend.config.pooling import Pooling
from backend.wire.messages import FinishReason, SeqOutput, TokenLogprobs
from backend.wire.sampling import SamplingParams
from gateway.app import create_app
from gateway.group_names import GroupNames
from gateway.pool.body_budget import BodyBudget
from gateway.pool.door import Door
from gateway.pool.refusals import QueueFull
from gateway.pool.status import PoolStatus
from gateway.pool.submit_options import SubmitOptions
from gateway.security.keyring import Keyring
from gateway.security.origins import Origins
from gateway.service import Limits, Service
from gateway.tenant import Tenant
from gateway.text.embedding_prompts import EmbeddingPrompts
from gateway.text.vocab.pair_form import TokenizedPair

if TYPE_CHECKING:
    from gateway.pool.replicas import ReplicaPool
    from gateway.sandbox.grammar_validator import GrammarValidator
    from gateway.text.tokenizer import Tokenizer

T = TypeVar("T")

BOS, EOS = 256, 257
VOCAB_SIZE = 258


SPECIAL_TEXTS = {BOS: "<s>", EOS: "</s>"}


class ByteDetokenizer:
    """Text of bytes as they come; a character is held back until it is whole."""

    def __init__(
        self, *, skip_special_tokens: bool = True, shown_ids: frozenset[int] = frozenset()
    ) -> None:
        self._shown_ids = shown_ids
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._skip_special_tokens = skip_special_tokens

    def push(self, token_id: int) -> str:
        if token_id < 256:
            return self._decoder.decode(bytes([token_id]))
        if self._skip_special_tokens and token_id not in self._shown_ids:
            return ""
        return self._decoder.decode(SPECIAL_TEXTS.get(token_id, "").encode())

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class ByteTokenizer:
    """One token a UTF-8 byte, and two special ones.

    prefix_ids: put in front of a prompt. marks: texts that are single tokens.
    """

    vocab_size = VOCAB_SIZE
    eos_token_ids = frozenset({EOS})

    def __init__(
        self,
        bos_token_id: int | None = BOS,
        prefix_ids: Sequence[int] = (),
        marks: Mapping[str, int] | None = None,
    ) -> None:
        self.bos_token_id = bos_token_id
        self._prefix_ids = list(prefix_ids)
        self._marks = marks or {}
        self.special_token_ids = {text: token_id for token_id, text in SPECIAL_TEXTS.items()}

    def min_num_tokens(self, text: str) -> int:
        return 0 if text in self._marks else len(text)

    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
        max_length: int | None = None,
        salt: str | None = None,
    ) -> list[int]:
        prefix_ids = self._prefix_ids if add_special_tokens else []
        if parse_special and text in self._marks:
            return [*prefix_ids, self._marks[text]]
        return [*prefix_ids, *text.encode()][:max_length]

    def encode_pair(
        self,
        first: str,
        second: str,
        *,
        max_length: int | None = None,
        max_second: int | None = None,
        parse_special: bool = False,
    ) -> TokenizedPair:
        behind = second.encode()[:max_second]
        ids = [BOS, *first.encode(), EOS, *behind]
        types = [0] * (len(first.encode()) + 2) + [1] * len(behind)
        return TokenizedPair(ids[:max_length], types[:max_length])

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        detokenizer = ByteDetokenizer(skip_special_tokens=skip_special_tokens)
        return "".join([*map(detokenizer.push, ids), detokenizer.flush()])

    def token(self, token_id: int) -> str:
        return SPECIAL_TEXTS.get(token_id, chr(token_id))

    def id_of(self, token: str) -> int | None:
        if token in self.special_token_ids:
            return self.special_token_ids[token]
        return ord(token) if len(token) == 1 and ord(token) < 256 else None

    def piece(self, token_id: int) -> str | bytes:
        if token_id >= 256:
            return SPECIAL_TEXTS.get(token_id, "")
        return chr(token_id) if token_id < 128 else bytes([token_id])

    def detokenizer(
        self,
        prompt_ids: Sequence[int] = (),
        *,
        skip_special_tokens: bool = True,
        shown_ids: frozenset[int] = frozenset(),
    ) -> ByteDetokenizer:
        return ByteDetokenizer(skip_special_tokens=skip_special_tokens, shown_ids=shown_ids)


def score_of(token_id: int, num_alternatives: int) -> TokenLogprobs:
    """Return the score that FakePool gives a token: e^-2, and better ones before it.

    The alternatives are the bytes "A", "B", ..., with -0.5, -1.0, ...
    """
    top = [(65 + rank, -0.5 * (rank + 1)) for rank in range(num_alternatives)]
    return TokenLogprobs(-2.0, 3, top)


class Receiver(Protocol):
    """Who gets the tokens of a submitted sequence."""

    def sent(self, seq_id: int) -> None: ...

    def receive(self, output: SeqOutput) -> None: ...


@dataclass(slots=True)
class Submitted:
    """What the pool was asked for."""

    prompt_ids: list[int]
    params: SamplingParams
    receiver: Receiver
    priority: int = 0
    deadline: float = 0.0
    cache_salt: str = ""
    tenant: str = ""
    second_segment: int = 0
    group: str = ""


@dataclass(slots=True)
class FakePool:
    """Records what is submitted and aborted; plays tokens when told, or `script` right away.

    script: token ids and finish reason that every sequence gets soon after its submission.
    vector_of: what every sequence gets then instead, from its token ids.
    refusal: raised by the submit number `refuse_at` (from 0) and all later ones.
    is_full: no request is taken.
    """

    max_model_len: int = 1000
    kv_sequence_tokens: int = 0
    script: tuple[bytes, FinishReason] | None = None
    vector_of: Callable[[list[int]], list[float]] | None = None
    refusal: Exception | None = None
    refuse_at: int = 0
    is_full: bool = False
    is_sent_at_once: bool = False
    submitted: dict[int, Submitted] = field(default_factory=dict)
    aborted: list[int] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)
    num_queued: int = 0
    queue_seconds: float = 0.0
    state: PoolStatus = field(
        default_factory=lambda: PoolStatus(ready=True, draining=False, stalled=False, groups=[])
    )
    is_shut: bool = False
    wait_seconds: float = 60.0
    names: GroupNames = field(default_factory=GroupNames)
    door: Door = field(init=False)

    def __post_init__(self) -> None:
        self.door = Door(
            lambda _: self.is_shut, time.monotonic, wait_seconds=self.wait_seconds, max_waiting=2
        )

    def check_room(self, tenant: Tenant, group: str = "") -> None:
        if self.is_full:
            raise QueueFull(7.2)

    def submit(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        receiver: Receiver,
        options: SubmitOptions | None = None,
        *,
        second_segment: int = 0,
    ) -> int:
        options = options or SubmitOptions()
        if self.refusal is not None and len(self.submitted) >= self.refuse_at:
            raise self.refusal
        seq_id = len(self.submitted)
        self.submitted[seq_id] = Submitted(
            prompt_ids,
            params,
            receiver,
            options.priority,
            options.deadline,
            options.cache_salt,
            options.tenant.id,
            second_segment,
            options.group,
        )
        if self.is_sent_at_once:
            receiver.sent(seq_id)
        if self.script is not None:
            asyncio.get_running_loop().call_soon(self.play, seq_id, *self.script)
        if self.vector_of is not None:
            asyncio.get_running_loop().call_soon(self.give_vector, seq_id)
        return seq_id

    def abort(self, seq_id: int) -> None:
        self.aborted.append(seq_id)

    def status(self) -> PoolStatus:
        return self.state

    def play(self, seq_id: int, token_ids: bytes, finish: FinishReason | None = None) -> None:
        """Send a sequence its tokens one frame each, as a real engine would."""
        for position, token_id in enumerate(token_ids):
            is_last = position == len(token_ids) - 1
            self.send(seq_id, [token_id], finish if is_last else None)
        if not token_ids:
            self.send(seq_id, [], finish)

    def send(
        self,
        seq_id: int,
        token_ids: Iterable[int],
        finish: FinishReason | None = None,
        *,
        num_cached_tokens: int = 0,
        error: str = "",
        prompt_logprobs: Sequence[TokenLogprobs] = (),
        stop_token_id: int | None = None,
    ) -> None:
        """Send one frame, unless the engine has heard of the end of the sequence.

        Tokens come with scores if those were asked for: see score_of().
        """
        if finish is not None:
            self.finished.add(seq_id)
        ids = list(token_ids)
        wanted = self.submitted[seq_id].params.logprobs
        scores = [] if wanted is None else [score_of(token_id, wanted) for token_id in ids]
        output = SeqOutput(
            seq_id,
            ids,
            finish,
            num_cached_tokens,
            error,
            tuple(scores),
            tuple(prompt_logprobs),
            stop_token_id,
        )
        self.submitted[seq_id].receiver.receive(output)

    def give_vector(self, seq_id: int) -> None:
        """Send a sequence its vector."""
        assert self.vector_of is not None
        self.finished.add(seq_id)
        submitted = self.submitted[seq_id]
        vector = array("f", self.vector_of(submitted.prompt_ids)).tobytes()
        submitted.receiver.receive(SeqOutput(seq_id, [], FinishReason.STOP, vector=vector))

    @property
    def running(self) -> set[int]:
        """Sequences that still occupy the engine."""
        return set(self.submitted) - self.finished - set(self.aborted)


def make_service(
    pool: FakePool,
    tokenizer: ByteTokenizer | None = None,
    limits: Limits | None = None,
    *,
    body_budget: BodyBudget | None = None,
    has_encoder: bool = False,
    strict: bool = False,
    grammar_validator: "GrammarValidator | None" = None,
    keyring: Keyring | None = None,
    allow_anonymous: bool = False,
    origins: Origins | None = None,
    pooling: Pooling | None = None,
    width: int = 0,
    has_segments: bool = False,
    prompts: EmbeddingPrompts | None = None,
) -> Service:
    """Return a service of the model "tiny" (alias "org/tiny") behind `pool`."""
    return Service(
        model_names=("tiny", "org/tiny"),
        tokenizer=cast("Tokenizer", tokenizer or ByteTokenizer()),
        pool=cast("ReplicaPool", pool),
        vocab_size=VOCAB_SIZE,
        created=1_700_000_000,
        system_fingerprint="fp_test",
        limits=limits or Limits(),
        body_budget=body_budget or BodyBudget(),
        has_encoder=has_encoder,
        strict=strict,
        grammar_validator=grammar_validator,
        keyring=keyring,
        allow_anonymous=allow_anonymous,
        origins=origins or Origins(),
        pooling=pooling,
        width=width,
        has_segments=has_segments,
        prompts=prompts or EmbeddingPrompts(),
    )


class Exchange:
    """One HTTP exchange by hand: what the client sends, what it got so far, when it leaves.

    With can_send cleared, the client reads nothing and writes to it block.
    """

    def __init__(
        self,
        app: ASGIApp,
        method: str,
        path: str,
        body: bytes | Sequence[bytes] = b"",
        headers: Iterable[tuple[str, str]] = (),
        client: str = "127.0.0.1",
    ) -> None:
        chunks = [body] if isinstance(body, bytes) else list(body)
        self.messages: list[Message] = []
        self.can_send = asyncio.Event()
        self.can_send.set()
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        for i, chunk in enumerate(chunks):
            more_body = i < len(chunks) - 1
            self.incoming.put_nowait(
                {"type": "http.request", "body": chunk, "more_body": more_body}
            )
        length = [(b"content-length", str(sum(map(len, chunks))).encode())]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers] + length,
            "client": (client, 1),
            "server": ("127.0.0.1", 80),
        }
        self.task = asyncio.ensure_future(_as_coroutine(app(scope, self.incoming.get, self._send)))

    async def _send(self, message: Message) -> None:
        await self.can_send.wait()
        self.messages.append(message)

    def leave(self) -> None:
        """Close the client's side."""
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def finished(self) -> "Exchange":
        """Wait for the application to return."""
        await self.task
        return self

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.messages[0]["headers"]}

    @property
    def bodies(self) -> list[bytes]:
        """The body messages, as they were written."""
        return [message["body"] for message in self.messages[1:]]

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object, its four keys checked."""
        error = cast(dict[str, Any], self.json["error"])
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def events(self) -> list[bytes]:
        """Data of the server-sent events so far, [DONE] included, comments left out."""
        events = self.body.split(b"\n\n")
        assert events.pop() == b""
        return [e.removeprefix(b"data: ") for e in events if e.startswith(b"data: ")]

    @property
    def chunks(self) -> list[Any]:
        """Decoded events before [DONE]."""
        return [msgspec.json.decode(data) for data in self.events if data != b"[DONE]"]

    @property
    def is_complete(self) -> bool:
        """Whether the response was ended properly."""
        last = self.messages[-1]
        return last["type"] == "http.response.body" and not last.get("more_body", False)


def complete(app: ASGIApp, headers: Iterable[tuple[str, str]] = (), **fields: Any) -> Exchange:
    """Begin POST /v1/completions of the model "tiny", prompt "hi", with `fields` on top."""
    body = msgspec.json.encode({"model": "tiny", "prompt": "hi", **fields})
    return Exchange(app, "POST", "/v1/completions", body, headers)


async def settle() -> None:
    """Let everything that can run without the clock run."""
    for _ in range(20):
        await asyncio.sleep(0)


class ManualClock(asyncio.SelectorEventLoop):
    """An event loop whose time moves only when a test says so."""

    now = 0.0

    def time(self) -> float:
        return self.now


async def advance(seconds: float) -> None:
    """Move the clock of a ManualClock loop and let what became due run."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ManualClock)
    loop.now += seconds
    await settle()


# Marks an async test that is run on a ManualClock loop.
manual_clock = pytest.mark.parametrize(
    "anyio_backend", [pytest.param(("asyncio", {"loop_factory": ManualClock}), id="manual_clock")]
)


def run_with_manual_clock(test: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a test coroutine function on a ManualClock loop."""
    with asyncio.Runner(loop_factory=ManualClock) as runner:
        return runner.run(test())


def app_of(pool: FakePool, **limits: Any) -> ASGIApp:
    """Return the application over `pool`."""
    return create_app(make_service(pool, limits=Limits(**limits)))


async def _as_coroutine(awaitable: Any) -> None:
    await awaitable
