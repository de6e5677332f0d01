"""Two gateways over the same group: what a key was given by one counts with the other."""

from dataclasses import dataclass, field

from backend.wire.messages import Request, SeqOutput, Served
from gateway.pool.fair_queue import FairQueue
from gateway.pool.replicas import ReplicaPool
from gateway.pool.submit_options import SubmitOptions
from gateway.tenant import Tenant
from tests.gateway.fake_group import FakeGroup
from tests.gateway.pool.world import Client, World, turn

A, B = Tenant(id="aaaa"), Tenant(id="bbbb", weight=2.0)


def told(group: FakeGroup) -> list[Served]:
    """What a worker has said of its service so far."""
    assert group.submits is not None
    return [request for request in group.requests if isinstance(request, Served)]


def share(pool: ReplicaPool) -> None:
    """Do what the timer would."""
    pool._shared_service.tell(pool._dispatcher.lanes())


async def test_worker_tells_what_keys_were_given_since() -> None:
    world = World()
    group = world.group()
    await turn()
    seq_id = world.submit(Client(), [1] * 10, SubmitOptions(tenant=A))
    share(world.pool)
    group.give(seq_id, [5, 6])
    await turn()
    share(world.pool)
    share(world.pool)
    assert told(group) == [Served({"aaaa": 10.0}), Served({"aaaa": 4.0})]


async def test_service_elsewhere_puts_a_key_behind_the_others() -> None:
    world = World()
    group = world.group(credit=0)
    await turn()
    clients = [Client() for _ in range(4)]
    for client, tenant in zip(clients, (A, B, A, B), strict=True):
        world.submit(client, [1] * 10, SubmitOptions(tenant=tenant))
    # Each has one running now, whatever the credit, and one that waits.
    assert [client.num_sent for client in clients] == [1, 1, 0, 0]
    group._end.send(Served({"bbbb": 50.0, "nobody here": 1.0}))
    group.send(credit=1)
    await turn()
    assert [client.num_sent for client in clients] == [1, 1, 1, 0], "B had 25 more for its weight"


async def test_groups_of_a_name_take_turns_in_passing_on() -> None:
    world = World()
    groups = [world.group(number) for number in range(2)]
    await turn()
    for _ in range(4):
        world.submit(Client(), [1], SubmitOptions(tenant=A))
        share(world.pool)
    assert [len(told(group)) for group in groups] == [2, 2]


@dataclass
class Full:
    """A channel without room."""

    sent: list[Request] = field(default_factory=list)

    def send(self, request: Request, *, urgent: bool = False) -> bool:
        return False


async def test_what_finds_no_room_is_told_later() -> None:
    world = World()
    group = world.group()
    await turn()
    world.submit(Client(), [1] * 3, SubmitOptions(tenant=A))
    conn = world.pool._dispatcher.connections[0]
    end, conn.end = conn.end, Full()  # type: ignore[assignment]
    share(world.pool)
    conn.end = end
    share(world.pool)
    assert told(group) == [Served({"aaaa": 3.0})]


async def test_timer_runs_only_while_something_is_served() -> None:
    world = World()
    group = world.group()
    await turn()
    sharing = world.pool._shared_service
    assert sharing._timer is None
    group.send(SeqOutput(1, [1]))
    await turn()
    assert sharing._timer is not None
    sharing._tell()
    assert sharing._timer is None and told(group) == []


def test_two_gateways_share_a_key_out_within_the_stated_bound() -> None:
    """A asks two gateways, B one of them. Each second both give 100 tokens; reports come a second
    late. Without them A would have 150 of 200 tokens; with them the two differ by what one report
    holds at most."""
    queues: list[FairQueue[str]] = [FairQueue(), FairQueue()]
    given = {"aaaa": 0, "bbbb": 0}
    one, key = Tenant(id="bbbb"), 0
    for second in range(100):
        reports = [dict(queue.served) for queue in queues]
        for queue, report in zip(queues, reversed(reports), strict=True):
            queue.served.clear()
            queue.charge_elsewhere(report)
        for place, queue in enumerate(queues):
            for _ in range(10):
                for tenant in (A, one) if place == 0 else (A,):
                    queue.push(key, tenant.id, tenant, priority=0, num_tokens=10)
                    key += 1
                head = queue.head()
                assert head is not None
                given[head] += 10
                queue.take(min(k for k, seat in queue._places.items() if seat.item == head))
        if second > 1:
            assert abs(given["aaaa"] - given["bbbb"]) <= 2 * 100
