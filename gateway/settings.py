"""What the operator may set, each setting declared once.

Engine settings are declared in backend/settings.py; setting_sources.py finds the values. Nothing
here acts on a value.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from backend.settings import Device, EngineSettings
from gateway.group_names import PRIMARY, GroupName, NodeName
from gateway.options import Option, options_of
from gateway.sampling_defaults import SamplingDefaults

_MODEL = {"group": "model"}
Origin = Annotated[
    str,
    Meta(
        pattern=r"^(\*|none|null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+)\Z",
        extra={"wanted": "an origin, as in https://app.example.com, or * for all, or none"},
    ),
]


_HOST_PORT = r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+):[0-9]{1,5}"
_WANTED_ADDRESS = {"wanted": "an address and a port, as in 10.0.0.7:9000"}
HostPort = Annotated[str, Meta(pattern=rf"^{_HOST_PORT}\Z", extra=_WANTED_ADDRESS)]
NoneOrHostPort = Annotated[str, Meta(pattern=rf"^({_HOST_PORT})?\Z", extra=_WANTED_ADDRESS)]
Fingerprint = Annotated[
    str,
    Meta(
        pattern=r"^([0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31})?\Z",
        extra={"wanted": "64 hexadecimal digits, as of openssl x509 -fingerprint -sha256"},
    ),
]


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the HTTP side and of finding the model."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="port to listen on (0: any free one)")
    ] = 8000
    management_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="port of Takeoff's management API, on this machine alone unless there are "
            "keys (0: none)",
        ),
    ] = 0
    workers: Annotated[int, Meta(ge=1, le=64, description="HTTP processes")] = 1
    api_keys: Annotated[
        str, Meta(description="file of API keys, made by `unisono keys`; read again on SIGHUP")
    ] = ""
    tls_cert: Annotated[
        str, Meta(description="PEM file of a certificate and its chain; read again on SIGHUP")
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file of the certificate's private key")] = ""
    allow_anonymous: Annotated[
        bool, Meta(description="serve requests without a key, even those of other machines")
    ] = False
    cors_origins: Annotated[
        tuple[Origin, ...],
        Meta(
            description="origins of pages in browsers that may call, with * for any part; by "
            "default this machine's, to a server that they reach over loopback"
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="names of this server for requests without a key (*: any); by default "
            "local ones over loopback, any elsewhere"
        ),
    ] = ()
    drain_seconds: Annotated[
        float, Meta(ge=0, le=86_400, description="time streams may take to end after a stop signal")
    ] = 30.0
    resume_seconds: Annotated[
        float,
        Meta(ge=0, le=86_400, description="time a request cut off by a crash waits for a group"),
    ] = 120.0
    queue_seconds: Annotated[
        float, Meta(ge=0.1, le=86_400, description="a request that would wait longer gets 429")
    ] = 60.0
    max_waiting: Annotated[
        int, Meta(ge=2, le=1_000_000, description="sequences that may wait, half of them one key's")
    ] = 4096
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=2**30, description="largest request body that is read")
    ] = 10 * 2**20
    max_bodies_bytes: Annotated[
        int, Meta(ge=1024, le=2**40, description="request bodies a worker holds; more get 503")
    ] = 2**28
    body_timeout_s: Annotated[
        float, Meta(ge=0.1, le=86_400, description="a request body must have come within that")
    ] = 30.0
    max_connections: Annotated[
        int, Meta(ge=1, le=1_000_000, description="connections of a worker; more get 503")
    ] = 4096
    strict: Annotated[
        bool,
        Meta(description="refuse request fields that mean nothing here, instead of ignoring them"),
    ] = False
    ping_seconds: Annotated[
        float,
        Meta(ge=0, le=86_400, description="a stream silent for so long sends a comment (0: never)"),
    ] = 15.0
    send_timeout_s: Annotated[
        float,
        Meta(ge=1, le=86_400, description="a client that reads below 64 KiB in so long is cut off"),
    ] = 30.0
    control_socket: Annotated[
        str, Meta(description="socket for `unisono ctl` (empty: in the user's runtime directory)")
    ] = ""
    restart_limit: Annotated[
        int, Meta(ge=0, description="restarts of a group in the window before it is given up")
    ] = 3
    restart_window_s: Annotated[
        float, Meta(ge=1, le=86_400, description="the window of --restart-limit, seconds")
    ] = 600.0
    hang_seconds: Annotated[
        float,
        Meta(ge=3, le=86_400, description="a rank without progress for so long is killed"),
    ] = 10.0
    launcher: Annotated[
        Literal["local", "ray"],
        Meta(description="where groups run: on this machine, or on the nodes of a Ray cluster"),
    ] = "local"
    ray_address: Annotated[
        str,
        Meta(min_length=1, description="of the cluster's head, host:port (auto: of this machine)"),
    ] = "auto"
    ray_resources: Annotated[
        dict[str, float],
        Meta(
            description="what a rank asks of Ray beside CPUs and a GPU",
            extra={"wanted": """a JSON object of numbers, as in {"A100": 1}"""},
        ),
    ] = {}
    node_port: Annotated[
        int,
        Meta(ge=0, le=65535, description="where agents on nodes call this server (0: any free)"),
    ] = 0
    placement_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="a server that starts waits so long for nodes with room",
        ),
    ] = 300.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least severe line logged")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Meta(description="log lines for people or for machines")
    ] = "text"
    otel_endpoint: Annotated[
        str,
        Meta(
            pattern=r"^(https?://.+)?$",
            description="OpenTelemetry collector for traces, as in http://host:4318/v1/traces",
            extra={"wanted": "a URL, as in http://host:4318/v1/traces"},
        ),
    ] = ""
    access_log: Annotated[bool, Meta(description="log a line for every request")] = True
    group_name: Annotated[
        GroupName,
        Meta(
            description="what requests may call the groups that --dp makes, as their `model` or "
            "`consumer_group`"
        ),
    ] = PRIMARY
    group_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="first of the ports where groups take the workers of other gateways, one "
            "each (0: none)",
        ),
    ] = 0
    group_host: Annotated[
        str, Meta(min_length=1, description="address where groups take workers of other gateways")
    ] = "127.0.0.1"
    group_secret: Annotated[
        str, Meta(description="file of the secret that lets gateways use each other's groups")
    ] = ""
    group_tls_cert: Annotated[
        str,
        Meta(
            description="PEM file of a certificate that encrypts the way to groups over TCP; read "
            "again on SIGHUP"
        ),
    ] = ""
    group_tls_key: Annotated[str, Meta(description="PEM file of its private key")] = ""
    group_tls_ca: Annotated[
        str,
        Meta(
            description="PEM file of the authorities that have signed the certificates of joined "
            "groups, which are encrypted then"
        ),
    ] = ""
    join: Annotated[
        tuple[HostPort, ...],
        Meta(
            description="addresses of groups of another gateway, which are used instead of own "
            "ones; --group-secret is theirs"
        ),
    ] = ()
    join_fingerprint: Annotated[
        Fingerprint,
        Meta(description="SHA-256 of their certificate, where the way to them is encrypted"),
    ] = ""
    group_wire: Annotated[
        Literal["memory", "tcp"],
        Meta(description="for tests: how this server's own workers reach its groups"),
    ] = "memory"
    served_model_name: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="names clients may ask for, separated by commas", extra=_MODEL),
    ] = ()
    chat_template: Annotated[
        str,
        Meta(
            description="Jinja file used instead of the model's chat template, or the name of one "
            "of the model's that is used for all conversations",
            extra=_MODEL,
        ),
    ] = ""
    default_chat_template_kwargs: Annotated[
        dict[str, Any],
        Meta(
            description="variables of the chat template where a request's chat_template_kwargs "
            "sets no others",
            extra=_MODEL | {"wanted": """a JSON object, as in {"enable_thinking": false}"""},
        ),
    ] = {}
    tool_notation: Annotated[
        str,
        Meta(
            min_length=1,
            description="how the model writes calls of tools: auto as its chat template shows, "
            "the name of a notation, or a file of one",
            extra=_MODEL,
        ),
    ] = "auto"
    reasoning_notation: Annotated[
        str,
        Meta(
            min_length=1,
            description="how the model writes thoughts: auto, none to leave them in the text, the "
            "name of a notation, or a file of one",
            extra=_MODEL,
        ),
    ] = "auto"
    thinking_token_budget: Annotated[
        int,
        Meta(
            ge=0,
            description="tokens that a thought may have where a request says no other number; it "
            "is ended then, and the answer begins (0: no limit)",
            extra=_MODEL,
        ),
    ] = 0
    generation_config: Annotated[
        Literal["auto", "none", "vllm"],
        Meta(
            description="sampling of requests that do not say: auto as the model's files have it "
            "(generation_config.json, GGUF's sampling keys), none as OpenAI (vllm is the same)",
            extra=_MODEL,
        ),
    ] = "auto"
    override_generation_config: Annotated[
        SamplingDefaults,
        Meta(
            description="sampling of requests that do not say, before what the model's files have",
            extra=_MODEL | {"wanted": """a JSON object, as in {"temperature": 0.5}"""},
        ),
    ] = SamplingDefaults()
    revision: Annotated[
        str, Meta(description="branch, tag or commit of a hub model", extra=_MODEL)
    ] = ""
    hf_token: Annotated[
        str,
        Meta(description="token for gated hub models; HF_TOKEN keeps it out of ps", extra=_MODEL),
    ] = ""
    offline: Annotated[
        bool, Meta(description="never ask the hub: only what is in its cache", extra=_MODEL)
    ] = False


class GroupSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of [[groups]] in the settings file: a group unlike the others."""

    ranks: Annotated[int, Meta(ge=1, le=64, description="ranks of the group")] = 1
    devices: Annotated[
        tuple[Device, ...], Meta(description="where each of its ranks computes")
    ] = ()
    threads: Annotated[int, Meta(ge=0, description="CPU threads a rank (0: its share)")] = 0
    name: Annotated[
        GroupName,
        Meta(
            description="what requests may call it, as their `model` or `consumer_group`; groups "
            "may share a name"
        ),
    ] = PRIMARY
    node: Annotated[
        NodeName,
        Meta(description="the node it runs on: its name, address or id; --launcher ray alone"),
    ] = ""
    address: Annotated[
        NoneOrHostPort,
        Meta(
            description="where a group of another gateway listens, which is used here as well; "
            "nothing else but name and fingerprint is said of it then"
        ),
    ] = ""
    fingerprint: Annotated[
        Fingerprint,
        Meta(description="SHA-256 of its certificate, where the way to it is encrypted"),
    ] = ""
    pp: Annotated[
        int, Meta(ge=1, le=64, description="stages that its ranks make, each with some layers")
    ] = 1


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `unisono serve` can be told; the tables of the settings file."""

    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()
    groups: tuple[GroupSettings, ...] = ()


def setting_options() -> dict[str, list[Option]]:
    """The options of each table of Settings, in the order of declaration."""
    return {
        "server": options_of(ServerSettings, "server"),
        "engine": options_of(EngineSettings, "engine"),
    }
