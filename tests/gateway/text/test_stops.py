from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.text.stops import StopMatcher
from tests.gateway.text.stop_texts import few_letters, stopped, stops


def matched(
    stop: tuple[str, ...], *deltas: str, keeps_stop: bool = False
) -> tuple[list[str], bool]:
    matcher = StopMatcher(stop, keeps_stop=keeps_stop)
    out = []
    for delta in deltas:
        out.append(matcher.push(delta))
        if matcher.found is not None:
            return out, True
    return [*out, matcher.flush()], False


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    assert matched(("END",), "abE", "N", "x") == (["ab", "", "ENx", ""], False)


def test_stop_string_is_not_in_the_text() -> None:
    assert matched(("END",), "abE", "ND tail") == (["ab", ""], True)


def test_held_text_comes_out_when_nothing_follows() -> None:
    assert matched(("END",), "abEN") == (["ab", "EN"], False)


def test_false_start_inside_a_false_start_is_held_back() -> None:
    assert matched(("aab",), "aaa", "b") == (["a", ""], True)


def test_stop_string_completed_first_wins_however_text_is_cut() -> None:
    assert matched(("long one", "n"), "a long one") == (["a lo"], True)
    assert matched(("long one", "n"), "a lo", "ng one") == (["a ", "lo"], True)


def test_of_two_completed_together_the_longer_wins() -> None:
    assert matched(("lo", "hello"), "say hello") == (["say "], True)


@given(few_letters, stops, st.lists(st.integers(0, 30)))
def test_text_up_to_the_stop_does_not_depend_on_the_cuts(
    text: str, stop: tuple[str, ...], cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), len(text)]
    deltas = [text[a:b] for a, b in pairwise(edges)]
    out, found = matched(stop, *deltas)
    assert ("".join(out), found) == stopped(text, stop)


@given(few_letters, stops, st.lists(st.integers(0, 30)))
def test_kept_stop_string_is_the_end_of_the_text(
    text: str, stop: tuple[str, ...], cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), len(text)]
    deltas = [text[a:b] for a, b in pairwise(edges)]
    without, found = stopped(text, stop)
    out, is_found = matched(stop, *deltas, keeps_stop=True)
    kept = "".join(out)
    assert is_found == found
    assert text.startswith(kept)
    if found:
        assert kept.startswith(without)
        assert kept.removeprefix(without) in stop
    else:
        assert kept == text


def test_stop_string_that_was_reached_is_told() -> None:
    matcher = StopMatcher(("x", "lo", "hello"))
    matcher.push("say hel")
    assert matcher.found is None
    matcher.push("lo x")
    assert matcher.found == "hello"
