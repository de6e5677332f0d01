"""GET /v1/models and /v1/models/{name}: what may stand in a request's `model`.

Who sends the header anthropic-version is told in Anthropic's form.
"""

from datetime import UTC, datetime

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from gateway.dialects.error_forms import ANTHROPIC_VERSION
from gateway.errors import model_not_found
from gateway.requests.body import json_response
from gateway.requests.capabilities import capabilities
from gateway.requests.context_length import ContextLength
from gateway.schema.anthropic_answer import AnthropicModel, AnthropicModelList
from gateway.schema.models import ModelCard, ModelList
from gateway.service import Service


async def list_models(http_request: Request) -> Response:
    """List every name that requests may use."""
    service: Service = http_request.app.state.service
    if _is_anthropic(http_request):
        models = [_anthropic_model(name, service) for name in service.model_names]
        first_id, last_id = models[0].id, models[-1].id
        listed = AnthropicModelList(data=models, first_id=first_id, last_id=last_id)
        return json_response(listed)
    return json_response(ModelList(data=[_card(name, service) for name in service.model_names]))


async def retrieve_model(http_request: Request) -> Response:
    """Describe one name."""
    service: Service = http_request.app.state.service
    name = http_request.path_params["name"]
    if name not in service.model_names:
        raise model_not_found(name)
    if _is_anthropic(http_request):
        return json_response(_anthropic_model(name, service))
    return json_response(_card(name, service))


def _card(name: str, service: Service) -> ModelCard:
    num_tokens = ContextLength(service.pool).num_tokens
    # Somebody has to say something, if not to an encoder.
    num_left = num_tokens if service.has_encoder else max(1, num_tokens - 1)
    return ModelCard(
        id=name,
        created=service.created,
        max_model_len=num_tokens,
        context_length=num_tokens,
        max_output_tokens=num_left if service.task == "generate" else UNSET,
        capabilities=[*capabilities(service)],
        task=service.task,
        dimensions=service.width if service.task == "embed" else UNSET,
        default_sampling_params=service.sampling_defaults,
    )


def _is_anthropic(http_request: Request) -> bool:
    return ANTHROPIC_VERSION in http_request.headers


def _anthropic_model(name: str, service: Service) -> AnthropicModel:
    num_tokens = ContextLength(service.pool).num_tokens
    created = datetime.fromtimestamp(service.created, UTC)
    return AnthropicModel(
        id=name,
        display_name=name,
        created_at=created.isoformat().replace("+00:00", "Z"),
        max_input_tokens=num_tokens,
        max_tokens=num_tokens,
    )
