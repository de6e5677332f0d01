"""Groups over TCP on loopback: those of this server, and of a second gateway that has joined.

The second one's way to the groups leads through relays of the test's, which can be cut. With our
own kernels, or in exact mode, a text depends on its request alone, so each is compared with the one
that nothing disturbs.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backend.native import levels
from tests.backend.factories import write_tiny_llama
from tests.e2e.clients import RawStream, metrics, request
from tests.e2e.control import ctl
from tests.e2e.crowd import FREED_SECONDS, at_once, slow
from tests.e2e.relay import Relay, free_ports
from tests.e2e.server import Server, refused_start, wait_until
from tests.e2e.test_resumption import POISON, Answer, ask, is_whole, post
from tests.level import forced_level

pytestmark = pytest.mark.e2e

NUM_GROUPS = 2
SECRET = "not to be told to anybody"


REQUESTS: list[dict[str, Any]] = [
    {"temperature": 0, "seed": 6},
    {"temperature": 1, "seed": 7},
    {"temperature": 1.2, "seed": 8, "top_p": 0.95, "top_k": 50},
    {"temperature": 0, "seed": 9, "frequency_penalty": 0.5, "n": 2},
]


def ask_all(server: Server, disturb: Callable[[], None] | None = None) -> list[Answer]:
    """Send all requests at once; disturb as soon as each has had some tokens."""
    return at_once(
        [partial(ask, server, {"max_tokens": 200, **fields}) for fields in REQUESTS], disturb
    )


@dataclass(frozen=True, slots=True)
class World:
    """owner: its own workers use TCP, too. joined: uses its groups, through relays."""

    owner: Server
    joined: Server
    relays: list[Relay]
    model: Path
    secret: Path
    undisturbed: list[Answer]
    owner_socket: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("group-wire")
    is_ours = bool(levels()) and forced_level().settings.get("kernels") != "torch"
    model = write_tiny_llama(folder / "tiny", head_dim=16, max_model_len=16384)
    secret = folder / "secret"
    secret.write_text(f"{SECRET}\n")
    secret.chmod(0o600)
    common = [] if is_ours else ["--exact", "--dtype", "float32"]
    common += ["--group-secret", str(secret)]
    port = free_ports(NUM_GROUPS)
    own = ["--dp", str(NUM_GROUPS), "--max-num-seqs", "32", "--kv-cache-bytes", str(1 << 24)]
    own += ["--group-port", str(port), "--group-wire", "tcp", "--restart-window-s", "1"]
    own += ["--control-socket", str(folder / "owner.sock")]
    own += ["--test-faults", f"{POISON[0].replace('rank=1', 'rank=0')} {slow(REQUESTS)}"]
    with ExitStack() as stack:
        owner = stack.enter_context(Server(model, *common, *own))
        ways = [stack.enter_context(Relay(port + number)) for number in range(NUM_GROUPS)]
        addresses = ",".join(relay.address for relay in ways)
        joined = stack.enter_context(Server(model, *common, "--join", addresses))
        wait_until(lambda: is_whole(joined), 180, "the second gateway has both groups")
        undisturbed = ask_all(owner)
        yield World(owner, joined, ways, model, secret, undisturbed, folder / "owner.sock")


def test_joined_gateway_gives_the_same_texts(world: World) -> None:
    assert ask_all(world.joined) == world.undisturbed


def test_answers_survive_a_killed_lead_on_both_gateways(world: World) -> None:
    [victim] = [pid for name, pid in world.owner.processes.items() if name.endswith("rank 0.0")]
    with ThreadPoolExecutor(1) as thread:
        elsewhere: list[Future[list[Answer]]] = []

        def kill_while_both_are_busy() -> None:
            elsewhere.append(
                thread.submit(ask_all, world.joined, lambda: os.kill(victim, signal.SIGKILL))
            )
            wait_until(
                lambda: world.owner.processes.get("unisono: rank 0.0") != victim, 60, "it died"
            )

        answers = ask_all(world.owner, kill_while_both_are_busy)
        assert elsewhere[0].result() == world.undisturbed
    assert answers == world.undisturbed
    for server in (world.owner, world.joined):
        wait_until(partial(is_whole, server), 180, "both groups are there again")


def test_answers_survive_a_cut_connection(world: World) -> None:
    def cut() -> None:
        assert sum(relay.cut() for relay in world.relays) >= 2 * NUM_GROUPS

    before = world.owner.processes
    assert ask_all(world.joined, cut) == world.undisturbed
    assert world.owner.processes == before, "no process ends for a connection"
    wait_until(lambda: is_whole(world.joined), 180, "both groups are there again")


def test_drained_group_ends_what_other_gateways_have_in_it(world: World) -> None:
    """It was cut off, and had to go on elsewhere, or where there is no other group, to wait."""

    def restart_all() -> None:
        status, words = ctl(world.owner_socket, "restart", "--rolling")
        assert status == 0, words

    def resumed() -> float:
        return metrics(world.joined.url)["unisono_resumptions_total"]

    before = resumed()
    assert ask_all(world.joined, restart_all) == world.undisturbed
    assert resumed() == before
    wait_until(lambda: is_whole(world.joined), 180, "both groups are there again")


def test_client_that_leaves_frees_the_group(world: World) -> None:
    body = {"model": "tiny", "prompt": "a b c", "max_tokens": 12_000, "ignore_eos": True}
    body["seed"] = REQUESTS[0]["seed"]  # which is slow
    with RawStream(world.joined.url, body) as stream:
        next(stream.pieces())
        assert not is_whole(world.joined)
    wait_until(lambda: is_whole(world.owner), FREED_SECONDS, "its blocks are free")


@pytest.mark.slow
def test_poison_of_a_joined_gateway_ends_after_two_deaths(world: World) -> None:
    """No supervisor tells a joined gateway whose fault a death was."""
    body = {"model": "tiny", "prompt": "a b", "max_tokens": 60, "ignore_eos": True, "seed": 666}
    poison = json.dumps(body).encode()
    status, headers, _ = post(world.joined, poison)
    assert (status, headers["x-should-retry"]) == (500, "false")
    wait_until(lambda: is_whole(world.owner), 180, "both groups are back")
    wait_until(lambda: is_whole(world.joined), 180, "and joined again")
    before = world.owner.processes
    assert post(world.joined, poison)[0] == 500
    assert world.owner.processes == before, "a retry reaches no group"


def test_wrong_secret_ends_the_start_and_is_logged(world: World, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("let me in please, I am a gateway")
    wrong.chmod(0o600)
    words = refused_start(world.model, "--group-secret", wrong, "--join", world.relays[0].address)
    assert "the secret is wrong" in words
    wait_until(lambda: "the secret is wrong; 1 so far" in world.owner.stderr, 60, "it is logged")
    for said in (words, world.owner.stderr):
        assert SECRET not in said and "let me in" not in said
    series = 'unisono_group_connections_refused_total{group="0",reason="secret"}'
    wait_until(lambda: metrics(world.owner.url).get(series, 0) >= 1, 60, "it is counted")


@pytest.mark.slow
def test_groups_of_a_gateway_that_has_stopped_are_waited_for(world: World) -> None:
    """A request that comes while no group is there waits, as for groups of one's own."""

    def ask(server: Server, **fields: Any) -> Any:
        body = {"model": "tiny", "prompt": "a b", "max_tokens": 5, "temperature": 0, **fields}
        return request(server.url, "POST", "/v1/completions", json.dumps(body).encode())

    status, _, before = ask(world.joined)
    assert status == 200
    pids = [pid for name, pid in world.owner.processes.items() if name.startswith("unisono: rank")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    status, _, after = ask(world.joined)
    assert (status, after["choices"]) == (200, before["choices"])
