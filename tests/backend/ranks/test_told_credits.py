"""When a worker that got nothing in a step hears of it all the same."""

import pytest

from backend.ranks.told_credits import MOST_SILENT_S, ToldCredits


@pytest.mark.parametrize(
    ("told", "credit", "is_news"),
    [
        (100, 100, False),
        (100, 199, False),
        (100, 51, False),
        (100, 201, True),
        (100, 49, True),
        (100, 0, True),
        (0, 0, False),
        (0, 1, True),
        (1, 2, False),
    ],
)
def test_credit_is_news_when_it_has_doubled_or_halved(
    told: int, credit: int, *, is_news: bool
) -> None:
    credits = ToldCredits()
    credits.note(7, told, 1.0)
    assert credits.is_news(7, credit, 1.0) == is_news
    assert credits.is_news(7, credit, 1.0 + MOST_SILENT_S), "it hears that the group gets on"
    assert credits.is_news(8, credit, 1.0), "who knows nothing is told"
    credits.forget(7)
    assert credits.is_news(7, told, 1.0)
