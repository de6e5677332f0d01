"""Sizes and counts with suffixes."""

import pytest

from gateway.options import Option, SettingsError
from gateway.settings import setting_options
from gateway.sizes import whole_number

OPTIONS = {option.name: option for table in setting_options().values() for option in table}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2GB", 2 * 10**9),
        ("512MiB", 512 * 2**20),
        ("512mib", 512 * 2**20),
        ("1.5 GB", 1_500_000_000),
        ("0.5KiB", 512),
        ("7B", 7),
        ("4k", 4000),
        ("4K", 4096),
        ("1m", 10**6),
        ("1G", 2**30),
        ("1.5k", 1500),
        (" 3T ", 3 * 2**40),
    ],
)
def test_suffix_multiplies(text: str, number: int) -> None:
    assert whole_number(text, is_bytes=True) == number


@pytest.mark.parametrize(
    "text", ["4", "", "k", "4x", "1.2B", "0.3KiB", "4 k k", "1e3", "4iB", "4ki"]
)
def test_what_is_no_whole_number_is_none(text: str) -> None:
    assert whole_number(text, is_bytes=True) is None


@pytest.mark.parametrize("text", ["4GB", "4MiB", "4B"])
def test_bytes_are_not_counted_in_tokens(text: str) -> None:
    assert whole_number(text, is_bytes=False) is None


def integers() -> list[Option]:
    return [option for option in OPTIONS.values() if type(option.default) is int]


def test_every_number_takes_a_suffix_wherever_it_is_written() -> None:
    names = {option.name for option in integers()}
    assert {"kv_cache_bytes", "max_body_bytes", "max_model_len", "max_num_seqs"} <= names
    for option in integers():
        if option.name in ("workers", "tp", "pp", "nodes", "dp", "block_size"):
            continue  # 1000 is beyond them
        assert option.read("2k", option.flag) == 2000
        assert option.check("2k", "file") == 2000
        assert option.is_size == option.name.endswith("_bytes")


def test_size_that_is_none_is_told_what_would_be() -> None:
    with pytest.raises(SettingsError, match=r"0 or more, or as in 4k or 512MiB, not '2XB'"):
        OPTIONS["kv_cache_bytes"].read("2XB", "--kv-cache-bytes")
    with pytest.raises(SettingsError, match=r"from 1024 to .*, not '1B'"):
        OPTIONS["max_body_bytes"].read("1B", "--max-body-bytes")
    with pytest.raises(SettingsError, match="an integer of 0 or more, not '2GB'"):
        OPTIONS["max_model_len"].read("2GB", "--max-model-len")
    with pytest.raises(SettingsError, match="not '4096'"):
        OPTIONS["max_model_len"].check("4096", "file")
