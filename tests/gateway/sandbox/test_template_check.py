"""What an operator got wrong about templates is told before anything is spawned."""

from pathlib import Path
from typing import Any

import pytest

from backend.config.errors import ModelError
from gateway.sandbox.template_check import check_chat_templates
from gateway.settings import ServerSettings


def check(path: Path, **settings: Any) -> None:
    check_chat_templates(path, ServerSettings(**settings))


def test_good_file_and_variables_pass(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{% generation %}{{ messages | tojson }}{% endgeneration %}")
    check(tmp_path, chat_template=str(file), default_chat_template_kwargs={"thinking": True})


def test_syntax_error_of_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("ok\n{% if %}")
    with pytest.raises(ModelError, match=r"^--chat-template .*mine.jinja: line 2: Expected an"):
        check(tmp_path, chat_template=str(file))


def test_models_own_broken_template_stops_nothing(tmp_path: Path) -> None:
    """Completions can be served without one."""
    (tmp_path / "chat_template.jinja").write_text("{% if %}")
    check(tmp_path)


LOSING = "<user>{{ messages[0].content[0].words }}"


def test_template_that_loses_the_question_ends_the_start(tmp_path: Path) -> None:
    """The model answered prompts without one, and nobody was told."""
    file = tmp_path / "mine.jinja"
    file.write_text(LOSING)
    with pytest.raises(ModelError, match=r"^--chat-template .*jinja: it shows nothing of what"):
        check(tmp_path, chat_template=str(file))
    (tmp_path / "chat_template.jinja").write_text(LOSING)
    with pytest.raises(ModelError, match="its chat template 'default': it shows nothing"):
        check(tmp_path)
    check_chat_templates(tmp_path, ServerSettings(), has_chats=False)


@pytest.mark.parametrize(
    "source",
    ["{{ raise_exception('no') }}", "{% for p in messages[0].content %}{{ p.text }}{% endfor %}"],
)
def test_template_that_fails_or_reads_parts_is_no_reason_to_end(
    tmp_path: Path, source: str
) -> None:
    (tmp_path / "chat_template.jinja").write_text(source)
    check(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokenize": False}, ".tokenize: set by the server"),
        ({"messages": []}, ".messages: set by the server"),
        ({"not a name": 1}, ".not a name: not the name of a variable"),
    ],
)
def test_variable_no_template_could_have_is_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match="^--default-chat-template-kwargs" + words):
        check(tmp_path, default_chat_template_kwargs=options)
