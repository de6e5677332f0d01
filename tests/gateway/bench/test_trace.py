"""Traces are read whole or refused with the line at fault."""

import json
from pathlib import Path

import pytest

from gateway.bench.trace import TraceError, read_trace

LINES = [
    '{"timestamp": 1000, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}',
    '{"timestamp": 1000, "input_length": 512, "output_length": 6, "hash_ids": [0]}',
    '{"timestamp": 3500.5, "input_length": 9, "output_length": 7, "chat_id": 4}',
]


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def refusal(path: Path, text: str) -> str:
    with pytest.raises(TraceError) as refused:
        read_trace(written(path, text))
    return str(refused.value).removeprefix(str(path))


def test_mooncakes_lines_are_read_with_their_times(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.jsonl", "\n".join(LINES) + "\n\n"))
    assert (trace.form, trace.has_times, trace.num_skipped) == ("Mooncake", True, 0)
    assert [request.arrival_s for request in trace.requests] == [0.0, 0.0, 2.5005]
    assert [request.num_prompt_tokens for request in trace.requests] == [600, 512, 9]
    assert [request.num_output_tokens for request in trace.requests] == [5, 6, 7]
    assert [request.block_ids for request in trace.requests] == [(0, 1), (0,), ()]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "the line is empty"),
        ('{"timestamp": 1, "input_length": 9}', "there is no field output_length"),
        ('{"timestamp": 1, "input_length": 9', "Input data was truncated"),
        (
            '{"timestamp": 2000, "input_length": null, "output_length": 1}',
            "Expected int, got null: input_length",
        ),
        (
            '{"timestamp": 2000, "input_length": 9, "output_length": 0}',
            "Expected int >= 1: output_length",
        ),
        (
            '{"timestamp": 999, "input_length": 9, "output_length": 1}',
            "timestamp 999 lies before that of the line above, 1000",
        ),
        (
            '{"timestamp": 2000, "input_length": 513, "output_length": 1, "hash_ids": [1]}',
            "1 hash_ids; 513 tokens have 2, one for each 512",
        ),
    ],
)
def test_hole_in_a_trace_is_refused_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    text = "\n".join([*LINES[:2], line, LINES[2]])
    assert refusal(tmp_path / "t.jsonl", text).startswith(f", line 3: {words}")


def turn(who: str, text: str) -> dict[str, str]:
    return {"from": who, "value": text}


def test_share_gpts_conversations_give_questions_and_replies(tmp_path: Path) -> None:
    conversations = [
        [turn("human", "Hi"), turn("gpt", "Hello."), turn("human", "More")],
        [turn("gpt", "I go on"), turn("human", "Why?"), turn("gpt", "So.")],
        [turn("human", "alone")],
        [],
    ]
    entries = [{"id": "x", "conversations": each} for each in conversations]
    trace = read_trace(written(tmp_path / "t.json", json.dumps(entries, indent=1)))
    assert (trace.form, trace.has_times, trace.num_skipped) == ("ShareGPT", False, 2)
    pairs = [(request.prompt, request.reply) for request in trace.requests]
    assert pairs == [("Hi", "Hello."), ("Why?", "So.")]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('{"id": "y"}', "line 3: the entry has no list of conversations"),
        ('{"conversations": [{"from": "gpt"}]}', "line 3: a turn of the conversation has no text"),
        ("{]}", "line 3: Expecting property name"),
        ("[" * 100_000, "line 3: the entry is nested too deeply"),
        ('{"conversations": ' + "9" * 5000, "line 3: a number is too long"),
        ('{"conversations": []} {}', "line 3: a comma or the end of the list is missing"),
        ('{"conversations": []},', "line 4: an entry is missing after the comma"),
    ],
)
def test_hole_in_share_gpts_list_is_refused_with_its_line(
    tmp_path: Path, entry: str, words: str
) -> None:
    whole = {"conversations": [turn("human", "a"), turn("gpt", "b")]}
    text = f"[\n{json.dumps(whole)},\n{entry}\n]"
    assert words in refusal(tmp_path / "t.json", text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", " is no trace: JSON lines as Mooncake has them, or ShareGPT's array, are"),
        ("timestamp,input\n", " is no trace: JSON lines"),
        ("[]", " has no request in it"),
        ('[{"conversations": []}]', " has no request in it"),
    ],
)
def test_file_without_requests_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert refusal(tmp_path / "t", text).startswith(words)


def test_half_of_a_surrogate_pair_can_be_sent(tmp_path: Path) -> None:
    """Texts cut within an emoji have one; encoding the request raised UnicodeEncodeError."""
    entries = [{"conversations": [turn("human", "Why \ud83d"), turn("gpt", "\udc4d So")]}]
    [request] = read_trace(written(tmp_path / "t.json", json.dumps(entries))).requests
    assert (request.prompt, request.reply) == ("Why \ufffd", "\ufffd So")


def test_list_that_does_not_end_is_refused(tmp_path: Path) -> None:
    assert "line 2" in refusal(tmp_path / "t", '[{"conversations": []}\n')


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        read_trace(tmp_path / "none")
    (tmp_path / "b").write_bytes(b"\xff\xfe{")
    with pytest.raises(TraceError, match="is no text in UTF-8"):
        read_trace(tmp_path / "b")
