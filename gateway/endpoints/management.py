"""Takeoff's management API, on a port of its own: readers, which are groups here, listed, added and
deleted by the supervisor's operations.

Must not know processes: it asks the supervisor as `unisono ctl` does.
"""

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gateway.endpoints.takeoff_readers import find_reader
from gateway.errors import ApiError, invalid
from gateway.requests.body import decode_body, json_response, read_body
from gateway.requests.context_length import ContextLength
from gateway.requests.unknown_fields import ignored_header, unknown_fields
from gateway.schema.takeoff import (
    TakeoffNewReader,
    TakeoffReader,
    TakeoffStatus,
)
from gateway.service import Service
from gateway.supervision.control_client import (
    ControlClient,
    ControlUnavailable,
    OperationRefused,
)
from gateway.supervision.control_messages import Add, Done, GroupView, Operation, Remove
from gateway.supervision.groups import GroupState

_decoder = msgspec.json.Decoder(TakeoffNewReader)


async def reader_groups(http_request: Request) -> Response:
    """List all readers, by their groups' names."""
    groups: dict[str, list[TakeoffReader]] = {}
    for reader in await _readers(http_request):
        groups.setdefault(reader.consumer_group, []).append(reader)
    return json_response(groups)


async def management_status(http_request: Request) -> Response:
    """List the readers that take work."""
    readers = await _readers(http_request)
    return json_response(TakeoffStatus({each.reader_id: each for each in readers if each.ready}))


async def reader_config(http_request: Request) -> Response:
    """Describe one reader."""
    readers = await _readers(http_request)
    return json_response(find_reader(readers, http_request.path_params["name"]))


async def create_reader(http_request: Request) -> Response:
    """Start one more group; answer when it takes work."""
    service: Service = http_request.app.state.service
    body = await read_body(http_request, service)
    request = decode_body(body, _decoder, service.limits.max_json_depth)
    known = frozenset(request.__struct_fields__)
    headers = ignored_header(unknown_fields(body, known, is_strict=service.strict))
    readers = await _readers(http_request)
    wanted = _wanted(request, service, readers)
    done = await _carry_out(http_request, wanted)
    made = await _readers(http_request)
    return json_response(find_reader(made, str(done.group)), 201, headers)


async def delete_reader(http_request: Request) -> Response:
    """Drain a group and forget it; answer when it is gone."""
    readers = await _readers(http_request)
    asked = http_request.path_params["name"]
    known = [reader.reader_id for reader in readers]
    if asked not in known:
        listed = ", ".join(map(repr, known)) or "none"
        raise ApiError(
            404, f"There is no reader '{asked}'; there are: {listed}.", code="reader_not_found"
        )
    patience_s: float = http_request.app.state.drain_seconds
    await _carry_out(http_request, Remove(int(asked), patience_s))
    return Response(status_code=204)


def _wanted(request: TakeoffNewReader, service: Service, readers: list[TakeoffReader]) -> Add:
    """Return the group that is asked for. Raises ApiError for one that cannot be here."""
    if service.group_of(request.model_name) != "":
        names = ", ".join(f"'{name}'" for name in service.model_names)
        raise invalid(
            f"This server serves {names}, and no other model: '{request.model_name}' needs a "
            "server of its own.",
            "model_name",
            "model_not_served",
        )
    served = ContextLength(service.pool).num_tokens
    if (request.max_sequence_length or 0) > served:
        raise invalid(
            f"Invalid 'max_sequence_length': {request.max_sequence_length} is more than the "
            f"{served} tokens that a sequence may have here.",
            "max_sequence_length",
        )
    there = {reader.device for reader in readers if isinstance(reader.device, str)}
    if request.device == "api" or (there and request.device not in (None, *there)):
        listed = ", ".join(sorted(there)) or "no device that is known now"
        message = f"Invalid 'device': readers compute on {listed} here, not on {request.device}."
        raise invalid(message, "device")
    visible = [each.strip() for each in (request.cuda_visible_devices or "").split(",")]
    devices = tuple(f"cuda:{each}" for each in visible if each)
    try:
        return msgspec.convert(
            {
                "name": request.consumer_group,
                "ranks": request.tensor_parallel or 0,
                "devices": devices,
                "max_num_seqs": request.max_batch_size or 0,
            },
            Add,
        )
    except msgspec.ValidationError as error:
        raise invalid(f"Invalid 'cuda_visible_devices': {error}.", "cuda_visible_devices") from None


async def _readers(http_request: Request) -> list[TakeoffReader]:
    service: Service = http_request.app.state.service
    try:
        listing = await _control(http_request).listing()
    except ControlUnavailable as error:
        raise _unavailable(error) from None
    return [_reader(group, service) for group in listing.groups]


def _reader(group: GroupView, service: Service) -> TakeoffReader:
    devices = {rank.device.partition(":")[0] for rank in group.ranks if rank.device}
    device: str | UnsetType = devices.pop() if len(devices) == 1 else UNSET
    return TakeoffReader(
        reader_id=str(group.group),
        consumer_group=group.name,
        model_name=service.model_names[0],
        model_type=service.task,
        max_sequence_length=group.max_model_len or ContextLength(service.pool).num_tokens,
        ready=group.state == GroupState.READY,
        running=group.running,
        waiting=group.waiting,
        state=group.state,
        tensor_parallel=group.tp,
        max_batch_size=group.max_num_seqs,
        device=device,
        pids=[rank.pid for rank in group.ranks],
    )


async def _carry_out(http_request: Request, operation: Operation) -> Done:
    try:
        return await _control(http_request).carry_out(operation)
    except OperationRefused as refusal:
        raise invalid(f"{str(refusal).rstrip('.')}.", None, "operation_failed") from None
    except ControlUnavailable as error:
        raise _unavailable(error) from None


def _control(http_request: Request) -> ControlClient:
    control: ControlClient = http_request.app.state.control
    return control


def _unavailable(error: ControlUnavailable) -> ApiError:
    return ApiError(503, f"The supervisor cannot be asked: {error}.", code="no_control_socket")
