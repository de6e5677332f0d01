"""Which groups a name stands for."""

from gateway.group_names import GroupNames


def test_no_name_means_primary_or_else_what_the_first_is_called() -> None:
    assert GroupNames().listed == ("primary",)
    names = GroupNames({1: "batch", 0: "chat", 2: "chat"})
    assert names.listed == ("chat", "batch") and names.of(1) == "batch"
    assert (names.resolve(""), names.resolve("batch"), names.resolve("gone")) == (
        "chat",
        "batch",
        "chat",
    )
    names.set({0: "chat", 3: "primary"})
    assert names.resolve("") == "primary" and "batch" not in names
    assert names.of(7) == "primary", "one that nobody has named yet"
