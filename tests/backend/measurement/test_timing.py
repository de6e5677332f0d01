from backend.measurement.timing import quiet_quantile, seconds_of, seconds_of_each


def test_quiet_quantile_ignores_what_others_took() -> None:
    assert quiet_quantile([1.0, 1.1, 1.2, 9.0, 9.0]) == 1.2
    assert quiet_quantile([3.0]) == 3.0


def test_work_runs_at_least_so_often_after_a_first_time() -> None:
    calls: list[int] = []
    assert seconds_of(lambda: calls.append(0), budget_s=0.0, least=3) < 1.0
    assert len(calls) == 4


def test_works_are_run_in_turns() -> None:
    """One after the other, a slow second of the machine met one of them: the difference of two
    prompts was less than nothing, and attention was taken to cost nothing."""
    calls: list[str] = []
    works = [lambda: calls.append("a"), lambda: calls.append("b")]
    assert len(seconds_of_each(works, budget_s=0.0, least=3)) == 2
    assert calls == ["a", "b"] * 4
