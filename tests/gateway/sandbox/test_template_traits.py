"""What is concluded from renderings; the templates here are functions."""

from collections.abc import Sequence

from gateway.sandbox.template_traits import Message, Traits, probe


def strings(messages: Sequence[Message]) -> str | None:
    """Shows strings under the name of their role, and fails over lists."""
    if not all(isinstance(message["content"], str) for message in messages):
        return None
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def parts(messages: Sequence[Message]) -> str:
    """Shows nothing of strings."""
    contents = [message["content"] for message in messages]
    return "".join(c[0]["text"].upper() if isinstance(c, list) else "" for c in contents)


def test_strings_go_to_a_template_that_shows_them() -> None:
    assert probe(strings) == Traits()


def test_role_that_is_not_shown_has_the_form_of_users() -> None:
    assert probe(parts).part_roles == ("user", "system", "assistant", "tool")
    assert probe(lambda m: strings([x for x in m if x["role"] == "user"])) == Traits()


def test_template_that_wants_more_than_a_question_is_given_more() -> None:
    def late(messages: Sequence[Message]) -> str:
        return parts(messages[1:])

    assert not probe(late).loses_users
    assert "user" in probe(late).part_roles


def test_users_are_lost_only_where_nothing_fails() -> None:
    assert probe(lambda messages: "This is user: qz").loses_users
    assert not probe(lambda messages: None).loses_users
    lost_or_failed = probe(lambda m: "" if isinstance(m[0]["content"], str) else None)
    assert lost_or_failed.loses_users


def test_developer_is_known_by_more_than_its_name() -> None:
    def titled(messages: Sequence[Message]) -> str:
        return "".join(f"[{m['role'].title()}] {m['content']}" for m in messages)

    def known(messages: Sequence[Message]) -> str:
        return titled([{**m, "role": m["role"].replace("developer", "boss")} for m in messages])

    assert not probe(titled).knows_developer
    assert probe(known).knows_developer


def test_arguments_are_text_where_objects_fail_and_text_is_shown() -> None:
    """Functionary's joins them to a string: a history with calls was refused."""

    def joins(messages: Sequence[Message]) -> str | None:
        calls = [call["function"] for m in messages for call in m.get("tool_calls", [])]
        if not all(isinstance(function["arguments"], str) for function in calls):
            return None
        shown = "".join(function["name"] + function["arguments"] for function in calls)
        return f"{strings(messages)}{shown}"

    assert probe(joins) == Traits(reads_text_arguments=True)
    neither = probe(lambda m: None if any("tool_calls" in x for x in m) else strings(m))
    assert not neither.reads_text_arguments
