"""Prompts with a suffix, for models that fill in."""

from gateway.app import create_app
from tests.gateway.completion_requests import (
    scripted,
)
from tests.gateway.fakes import (
    ByteTokenizer,
    complete,
    make_service,
)


async def test_suffix_stands_between_the_marks_of_a_fill_in_model() -> None:
    pool = scripted(b"x")
    marks = {"<fim_prefix>": 1, "<fim_suffix>": 2, "<fim_middle>": 3}
    app = create_app(make_service(pool, ByteTokenizer(marks=marks)))
    assert (await complete(app, suffix="yo").finished()).status == 200
    assert pool.submitted[0].prompt_ids == [1, 104, 105, 2, 121, 111, 3]
