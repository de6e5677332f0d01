"""What is known of one request and its answer when they are over.

Plain records, made by whoever serves an exchange and read by the figures, the access log and the
traces, which call nothing back.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Timings:
    """When a request got where, CLOCK_MONOTONIC seconds; 0 for not yet or not known.

    sent: the first of its sequences left the pool's queue for a group.
    """

    submitted: float = 0.0
    sent: float = 0.0
    first_token: float = 0.0
    finished: float = 0.0


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """What was generated for a request.

    finish_reasons: why each of its choices ended; "error" or "abort" for one that did not.
    """

    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    finish_reasons: list[str]
    timings: Timings = field(default_factory=Timings)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The error that a request was answered with: OpenAI's code and param, and its words."""

    code: str
    param: str
    message: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer. Times are CLOCK_MONOTONIC seconds.

    route: the pattern that matched, never a path that a client made up. status: 499 where the
    client left before an answer began. generated: for requests for text that were accepted.
    traceparent: what the client said its own span is (W3C Trace Context). path, user_agent: as the
    client sent them. ignored_fields: as its answer named them. client: its address.
    """

    method: str
    route: str
    status: int
    request_id: str
    tenant: str
    started_s: float
    ended_s: float
    generated: GenerationReport | None = None
    traceparent: str = ""
    path: str = ""
    ignored_fields: str = ""
    refusal: Refusal | None = None
    client: str = ""
    user_agent: str = ""
