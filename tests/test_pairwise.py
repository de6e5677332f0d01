"""Every pair of values is still tried, with a fraction of the cases."""

from itertools import combinations, product

import pytest

from tests.pairwise import covering


@pytest.mark.parametrize("sizes", [(2, 2, 2), (7, 11, 4, 2), (4, 5)])
def test_every_pair_is_covered_by_hardly_more_than_the_least(sizes: tuple[int, ...]) -> None:
    cases = list(product(*map(range, sizes)))
    chosen = [cases[index] for index in covering(cases)]
    for one, other in combinations(range(len(sizes)), 2):
        pairs = {(case[one], case[other]) for case in chosen}
        assert pairs == {*product(range(sizes[one]), range(sizes[other]))}
    if len(sizes) > 2:
        assert len(chosen) <= 1.5 * max(one * other for one, other in combinations(sizes, 2))


def test_pairs_that_no_case_holds_are_not_asked_for() -> None:
    cases = [(0, 0, 0), (0, 1, 1), (1, 0, 1)]
    assert covering(cases) == [0, 1, 2]
    assert covering([]) == []


def test_each_value_of_one_parameter_stays() -> None:
    assert covering([(0,), (1,), (2,)]) == [0, 1, 2]
    assert covering([()]) == [0]
