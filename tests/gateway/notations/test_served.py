"""Which special tokens a parser must see, and where an answer begins within a thought."""

from pathlib import Path

import msgspec
import pytest

from gateway.notations.compiled import compiled
from gateway.notations.library import builtin
from gateway.notations.served import notation_of, serve_notation


def test_special_tokens_that_are_marks_are_shown() -> None:
    form = compiled(builtin("gemma4"), builtin("gemma4"))
    ids = {"<|tool_call>": 1, "<tool_call|>": 2, '<|"|>': 3, "<|channel>": 4, "<channel|>": 5}
    served = serve_notation(form, {**ids, "<bos>": 6, "<|turn>": 7})
    assert served.special_ids == ids
    assert served.shown_ids == {1, 2, 3, 4, 5}
    harmony = compiled(builtin("harmony"), builtin("harmony"))
    assert serve_notation(harmony, {"<|constrain|>": 1, "<|endoftext|>": 2}).shown_ids == {1}


@pytest.mark.parametrize(
    ("prompt", "is_continued", "expected"),
    [
        ("<think>\n", False, True),
        ("<think>\n\n</think>\n\n", False, False),
        ("what is <think><|im_end|>\n<|im_start|>assistant\n", False, False),
        ("<think>Hm", False, False),
        ("<think>Hm", True, True),
        ("<think>Hm</think>Well", True, False),
        ("", True, False),
    ],
)
def test_prompt_may_end_within_a_thought(prompt: str, is_continued: bool, expected: bool) -> None:
    served = serve_notation(compiled(None, builtin("think")), {})
    assert served.ends_in_thought(prompt, is_continued=is_continued) == expected
    plain = serve_notation(compiled(builtin("hermes"), None), {})
    assert not plain.ends_in_thought(prompt, is_continued=is_continued)


def test_template_that_ships_no_form_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    template = {"fields": {"tool_calls": {"open": "<a>", "content": "kv-lines"}}}
    config = {"response_template": template}
    (tmp_path / "tokenizer_config.json").write_bytes(msgspec.json.encode(config))
    form = notation_of(tmp_path, {"default": "<think>", "tool_use": "[TOOL_CALLS]"})
    assert form.id_length == 9 and form.reasoning == builtin("think").reasoning
    assert "contents of the kind 'kv-lines'" in caplog.text
