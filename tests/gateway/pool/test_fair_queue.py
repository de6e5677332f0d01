"""The order in which tenants' work leaves the queue."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.fair_queue import INPUT_WEIGHT, OUTPUT_WEIGHT, FairQueue
from gateway.tenant import ANONYMOUS, Tenant


def tenant(name: str, weight: float = 1.0) -> Tenant:
    return Tenant(id=name, weight=weight)


A, B = tenant("aaaa"), tenant("bbbb")


def push(
    queue: FairQueue[int], key: int, whose: Tenant = A, *, priority: int = 0, tokens: int = 10
) -> None:
    queue.push(key, key, whose, priority=priority, num_tokens=tokens)


def take(queue: FairQueue[int], count: int = 1) -> list[int]:
    taken = []
    for _ in range(count):
        key = queue.head()
        assert key is not None
        queue.take(key)
        taken.append(key)
    return taken


def test_one_tenant_is_served_by_priority_and_then_by_arrival() -> None:
    queue: FairQueue[int] = FairQueue()
    for key, priority in enumerate([0, 1, 0, -1, 0]):
        push(queue, key, ANONYMOUS, priority=priority)
    assert take(queue, 5) == [3, 0, 2, 4, 1]
    assert queue.head() is None and queue.num_tokens == 0


def test_newcomer_does_not_wait_behind_a_flood() -> None:
    queue: FairQueue[int] = FairQueue()
    for key in range(100):
        push(queue, key)
    take(queue, 50)
    push(queue, 1000, B)
    assert 1000 in take(queue, 2)


def test_backlogged_tenants_are_served_alike_in_tokens() -> None:
    queue: FairQueue[int] = FairQueue()
    for key in range(100):
        push(queue, key, A, tokens=30)
        push(queue, 1000 + key, B, tokens=10)
    served = take(queue, 40)
    of_a = sum(30 for key in served if key < 1000)
    of_b = sum(10 for key in served if key >= 1000)
    assert abs(of_a - of_b) <= 30


def test_output_counts_more_than_input() -> None:
    queue: FairQueue[int] = FairQueue()
    for key in range(10):
        push(queue, key, A)
        push(queue, 1000 + key, B)
    queue.charge(A.id, 100)
    turns = int(100 * OUTPUT_WEIGHT / INPUT_WEIGHT / 10)
    assert all(key >= 1000 for key in take(queue, min(10, turns)))


def test_weight_is_a_share() -> None:
    queue: FairQueue[int] = FairQueue()
    heavy = tenant("heavy", 3.0)
    for key in range(100):
        push(queue, key, heavy)
        push(queue, 1000 + key, B)
    served = take(queue, 40)
    assert 29 <= sum(key < 1000 for key in served) <= 31


def test_who_was_away_has_saved_up_nothing() -> None:
    queue: FairQueue[int] = FairQueue()
    push(queue, 2000, B)
    take(queue)
    for key in range(100):
        push(queue, key)
    take(queue, 50)
    for key in range(100):
        push(queue, 1000 + key, B)
    served = take(queue, 20)
    assert 9 <= sum(key >= 1000 for key in served) <= 11


def test_who_was_away_while_all_were_has_saved_up_nothing_either() -> None:
    queue: FairQueue[int] = FairQueue()
    for key in range(50):
        push(queue, key)
    take(queue, 50)
    for key in range(100, 110):
        push(queue, key, B)
        push(queue, 100 + key, A)
    served = take(queue, 10)
    assert 4 <= sum(key < 200 for key in served) <= 6


def test_what_is_dropped_costs_nothing() -> None:
    queue: FairQueue[int] = FairQueue()
    for key in range(10):
        push(queue, key)
    assert queue.drop(0) and not queue.drop(0)
    assert queue.of(A) == (9, 90, 1.0)
    push(queue, 1000, B)
    assert queue.of(A) == (9, 90, 0.5)
    assert take(queue, 2) == [1, 1000]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["push", "take", "drop", "charge"]),
            st.integers(0, 3),
            st.integers(-1, 1),
            st.integers(1, 50),
        ),
        max_size=60,
    )
)
def test_counts_are_those_of_what_is_there(actions: list[tuple[str, int, int, int]]) -> None:
    queue: FairQueue[int] = FairQueue()
    there: dict[int, tuple[str, int, int]] = {}
    for key, (action, who, priority, tokens) in enumerate(actions):
        name = f"ten{who}"
        match action:
            case "push":
                push(queue, key, tenant(name), priority=priority, tokens=tokens)
                there[key] = (name, priority, tokens)
            case "take" if (head := queue.head()) is not None:
                name, priority, _ = there[head]
                own = [(there[k][1], k) for k in there if there[k][0] == name]
                assert min(own) == (priority, head)
                queue.take(head)
                del there[head]
            case "drop":
                assert queue.drop(tokens) == (there.pop(tokens, None) is not None)
            case "charge":
                queue.charge(name, tokens)
        assert len(queue) == len(there) == len(queue.items())
        assert queue.num_tokens == sum(held for _, _, held in there.values())
        assert (queue.head() is None) == (not there)
        for other in ("ten0", "ten1", "ten2", "ten3"):
            held = [tokens for owner, _, tokens in there.values() if owner == other]
            assert queue.of(tenant(other))[:2] == (len(held), sum(held))
