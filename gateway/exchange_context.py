"""What the parts of the application tell each other about one exchange.

Made by the Envelope, the outermost middleware, and carried in the ASGI scope; everybody gets it
from exchange_context(). Knows nobody who reads or writes it.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Scope

from gateway.errors import OPENAI_ERRORS, ApiError, ErrorForm, error_response
from gateway.telemetry.exchange import GenerationReport
from gateway.tenant import Tenant

_KEY = "unisono.exchange_context"


class Reservation(Protocol):
    """What a request holds until it has been answered."""

    def release(self) -> None: ...


class Reportable(Protocol):
    """What is generated for a request."""

    def report(self) -> GenerationReport: ...


@dataclass(slots=True)
class ExchangeContext:
    """One request and its answer, while they are under way.

    request_id: the Envelope's, or another that the body asks for. tenant: who asks, set by the
    Gate; None where nobody known does. body: what the body takes of the budget. generation: what
    answers it, of a request for text that was accepted. error_form: how a refusal is told. headers:
    more of them, for whatever answer it gets. error: what it was refused with, if it was.
    """

    request_id: str
    error_form: ErrorForm = OPENAI_ERRORS
    tenant: Tenant | None = None
    body: Reservation | None = None
    generation: Reportable | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    error: ApiError | None = None

    def put_in(self, scope: Scope) -> None:
        """Have exchange_context() find it."""
        scope[_KEY] = self

    def refusal(self, error: ApiError, headers: dict[str, str] | None = None) -> Response:
        """Return an error as the client expects errors, and note it; see error_response()."""
        self.error = error
        return error_response(error, headers, self.error_form, self.request_id)


def exchange_context(scope: Scope) -> ExchangeContext:
    """Return what is known of the exchange that a scope belongs to."""
    context: Any = scope[_KEY]
    assert isinstance(context, ExchangeContext)
    return context
