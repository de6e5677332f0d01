"""Back-off and the limit of restarts."""

from gateway.supervision.restarts import Restarts


def test_delay_doubles_up_to_a_minute() -> None:
    restarts = Restarts(limit=10, window_s=600)
    delays = []
    for second in range(8):
        assert restarts.note_death(second)
        delays.append(restarts.delay_s)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_one_death_more_than_the_limit_is_too_many() -> None:
    restarts = Restarts(limit=3, window_s=600)
    assert [restarts.note_death(second) for second in range(4)] == [True, True, True, False]
    assert restarts.num_deaths == 4


def test_deaths_before_the_window_do_not_count() -> None:
    restarts = Restarts(limit=1, window_s=600)
    assert all(restarts.note_death(1000.0 * number) for number in range(5))
    assert (restarts.num_deaths, restarts.delay_s) == (5, 1)


def test_forgiven_deaths_do_not_count() -> None:
    restarts = Restarts(limit=1, window_s=600)
    restarts.note_death(0)
    restarts.forgive()
    assert restarts.note_death(1)
    assert restarts.num_deaths == 2
