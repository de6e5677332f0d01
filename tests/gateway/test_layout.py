"""From settings to groups: ranks, devices, and threads that share the cores."""

import os
from pathlib import Path

import pytest

from backend.config.errors import ModelError
from backend.settings import EngineSettings
from backend.wire.tcp.encryption import self_signed_pair
from gateway.layout import (
    GroupPlace,
    another_place,
    layout,
    read_secret,
    shape,
    warn_of_readable_secret,
)
from gateway.options import SettingsError
from gateway.setting_sources import load
from gateway.settings import GroupSettings, ServerSettings, Settings


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "unisono.toml"
    path.write_text(text)
    return path


def test_tp_and_dp_make_like_groups_that_share_cores() -> None:
    places = layout(Settings(engine=EngineSettings(tp=2, dp=2)))
    assert [place.first_rank for place in places] == [0, 2]
    assert {(place.engine.tp, place.engine.dp, place.engine.threads) for place in places} == {
        (2, 2, 2)
    }
    assert shape(places) == "TP 2 x DP 2"


def test_devices_are_shared_out_group_after_group() -> None:
    engine = EngineSettings(tp=2, dp=2, devices=("cuda:0", "cuda:1", "cuda:2", "cpu"))
    places = layout(Settings(engine=engine))
    assert [place.engine.devices for place in places] == [("cuda:0", "cuda:1"), ("cuda:2", "cpu")]


def test_too_few_devices_are_refused() -> None:
    with pytest.raises(ModelError, match="--devices names 2 devices for 4 ranks: --tp 2 times"):
        layout(Settings(engine=EngineSettings(tp=2, dp=2, devices=("cuda:0", "cuda:1"))))


def test_listed_groups_may_differ(tmp_path: Path) -> None:
    text = """
[[groups]]
ranks = 2
devices = ["cuda:0", "cuda:1"]

[[groups]]
threads = 3
name = "batch"
[engine]
device = "cpu"
"""
    settings = load({}, {}, write(tmp_path, text)).settings
    assert settings.groups == (
        GroupSettings(2, ("cuda:0", "cuda:1")),
        GroupSettings(1, (), 3, "batch"),
    )
    first, second = layout(settings)
    assert (first.engine.tp, first.engine.dp, first.engine.devices) == (2, 2, ("cuda:0", "cuda:1"))
    assert (second.engine.tp, second.first_rank, second.engine.device) == (1, 2, "cpu")
    assert (first.name, second.name) == ("primary", "batch")
    # Three of eight cores are taken; two ranks share five.
    assert (first.engine.threads, second.engine.threads) == (2, 3)
    assert shape([first, second]) == "2 groups of 2, 1 ranks"


def test_threads_are_never_none() -> None:
    places = layout(Settings(engine=EngineSettings(tp=4, dp=4)))
    assert {place.engine.threads for place in places} == {1}
    places = layout(Settings(engine=EngineSettings(dp=2, threads=5)))
    assert {place.engine.threads for place in places} == {5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups = 2", r"groups are written as \[\[groups\]\]"),
        ("[groups]\nranks = 2", r"groups are written as \[\[groups\]\]"),
        ("[[groups]]\nranks = 0", "group 0: ranks must be an integer from 1 to 64, not 0"),
        ("[[groups]]\n[[groups]]\nrank = 1", "group 1: rank is not a setting; did you mean ranks"),
        ("[[groups]]\ndevices = ['tpu']", "group 0: devices must be a list"),
        ("[[groups]]\nranks = 2\ndevices = ['cpu']", "1 devices for 2 ranks; name one for each"),
        ("[engine]\ntp = 2\n[[groups]]\nranks = 2", "so tp must not be set as well; it is, by"),
        ("[[groups]]\n" * 1025, "1025 .* are more than 1024"),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=rf"unisono\.toml: .*{message}"):
        load({}, {}, write(tmp_path, text))


def test_flags_beside_listed_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"so dp must not be set as well; it is, by --dp"):
        load({"dp": "2"}, {}, write(tmp_path, "[[groups]]\nranks = 2"))


def test_another_place_is_the_first_but_for_what_is_said() -> None:
    first = GroupPlace(EngineSettings(tp=2, devices=("cuda:0", "cuda:1")), 0, "chat")
    assert another_place(first, None, 0, (), 0) == first
    other = another_place(first, "batch", 1, (), 8)
    assert (other.name, other.engine.tp, other.engine.devices) == ("batch", 1, ())
    assert other.engine.max_num_seqs == 8
    assert another_place(first, None, 0, ("cuda:2",), 0).engine.tp == 1
    with pytest.raises(ModelError, match="1 devices for 2 ranks"):
        another_place(first, None, 2, ("cuda:2",), 0)


def test_joined_groups_are_nobodys_here(tmp_path: Path) -> None:
    """They take no threads and no devices; own groups share the cores without them."""
    secret = tmp_path / "secret"
    secret.write_text("long enough to be a secret")
    pin = "ab" * 32
    text = f"""
[server]
group_secret = "{secret}"
[[groups]]
address = "10.0.0.7:9000"
fingerprint = "{pin}"
name = "far"
[[groups]]
ranks = 2
"""
    places = layout(load({}, {}, write(tmp_path, text)).settings)
    assert [place.name for place in places] == ["primary", "far"]
    own, far = places
    assert own.address is None and (own.engine.tp, own.engine.dp, own.engine.threads) == (2, 1, 4)
    assert far.address is not None
    assert (far.address.host, far.address.port) == ("10.0.0.7", 9000)
    assert far.address.secret == b"long enough to be a secret"
    assert far.address.fingerprint == bytes.fromhex(pin)
    assert shape(places) == "TP 2 x DP 1, 1 joined group"


def test_join_takes_the_place_of_own_groups(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("long enough to be a secret")
    flags = {"join": ("10.0.0.7:9000", "[::1]:9001"), "group_secret": str(secret)}
    places = layout(load(flags, {}, None).settings)
    addresses = [place.address for place in places]
    assert [(each.host, each.port) for each in addresses if each] == [
        ("10.0.0.7", 9000),
        ("::1", 9001),
    ]
    assert shape(places) == "2 joined groups"


def test_authorities_of_joined_groups_are_checked_and_passed_on(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("long enough to be a secret")
    authorities = tmp_path / "ca.pem"
    server = ServerSettings(
        join=("10.0.0.7:9000",), group_secret=str(secret), group_tls_ca=str(authorities)
    )
    for content in (None, "", "no certificate"):
        if content is not None:
            authorities.write_text(content)
        with pytest.raises(ModelError, match=r"ca\.pem has no certificates of authorities: "):
            layout(Settings(server=server))
    authorities.write_text(self_signed_pair()[0])
    [place] = layout(Settings(server=server))
    assert place.address is not None
    assert place.address.is_encrypted and place.address.ca_file == str(authorities)


@pytest.mark.parametrize("size", [0, 15, 257, 1 << 20])
def test_secret_of_a_wrong_length_is_refused_without_it(tmp_path: Path, size: int) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"q" * size + b"\n")
    with pytest.raises(ModelError, match="16 to 256 are needed") as error:
        read_secret(str(secret))
    assert "qqq" not in str(error.value)


def test_secret_is_read_less_blanks_around_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b" \t first line\nsecond line\r\n\n")
    assert read_secret(str(secret)) == b"first line\nsecond line"


def test_secret_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(ModelError, match="/dev/zero"):
        read_secret("/dev/zero")


def test_secret_others_may_change_or_read_is_refused_or_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("long enough to be a secret")
    secret.chmod(0o620)
    with pytest.raises(ModelError, match="changed by others"):
        read_secret(str(secret))
    secret.chmod(0o644)
    warn_of_readable_secret(str(secret))
    assert caplog.text.count("may be read by everybody") == 1
    secret.chmod(0o600)
    warn_of_readable_secret(str(secret))
    assert caplog.text.count("may be read by everybody") == 1
    assert "long enough" not in caplog.text


def test_joining_needs_a_secret_and_a_port(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--group-secret FILE"):
        layout(load({"join": ("10.0.0.7:9000",)}, {}, None).settings)
    secret = tmp_path / "secret"
    secret.write_text("long enough to be a secret")
    flags = {"join": ("10.0.0.7:99999",), "group_secret": str(secret)}
    with pytest.raises(ModelError, match="names no port"):
        layout(load(flags, {}, None).settings)


def test_group_with_an_address_has_no_ranks_of_ours(tmp_path: Path) -> None:
    text = '[[groups]]\naddress = "10.0.0.7:9000"\nranks = 2\n'
    with pytest.raises(SettingsError, match="ranks cannot be said of a group with an address"):
        load({}, {}, write(tmp_path, text))


def test_stages_are_ranks_and_have_devices_of_their_own() -> None:
    engine = EngineSettings(tp=2, pp=2, dp=1, devices=("cpu",) * 4)
    [place] = layout(Settings(engine=engine))
    assert (place.engine.tp, place.engine.pp, place.engine.num_ranks) == (2, 2, 4)
    assert shape([place]) == "TP 2 x PP 2 x DP 1"
    with pytest.raises(ModelError, match="names 2 devices for 4 ranks: --tp 2 times --pp 2"):
        layout(Settings(engine=EngineSettings(tp=2, pp=2, devices=("cpu", "cpu"))))


def test_group_of_stages_in_a_file_shares_its_ranks_out() -> None:
    [place] = layout(Settings(groups=(GroupSettings(ranks=6, pp=3),)))
    assert (place.engine.tp, place.engine.pp) == (2, 3)
    with pytest.raises(ModelError, match="5 ranks cannot be 2 stages"):
        layout(Settings(groups=(GroupSettings(ranks=5, pp=2),)))


def test_several_nodes_want_a_launcher_that_has_them_and_no_name() -> None:
    engine = EngineSettings(pp=2, nodes=2)
    with pytest.raises(ModelError, match=r"--nodes 2: .* --launcher ray"):
        layout(Settings(engine=engine))
    ray = ServerSettings(launcher="ray")
    [place] = layout(Settings(engine=engine, server=ray))
    assert place.engine.nodes == 2
    with pytest.raises(ModelError, match="on node n1, and on --nodes 2"):
        layout(Settings(engine=engine, server=ray, groups=(GroupSettings(2, node="n1", pp=2),)))
