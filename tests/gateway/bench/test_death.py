"""The end of a server is told in one line, and whether memory was the cause is found out."""

import pytest

from backend.config.errors import ModelError
from backend.placement.memory_plan import check_fits, check_kv_fits, num_kv_blocks
from gateway.bench.death import death_from
from gateway.supervision.local_incarnation import OUT_OF_MEMORY


def refusals() -> list[str]:
    """What start-up says when a model, a cache or a single block does not fit."""
    words = []
    for refuse in (
        lambda: check_fits(10**12, 10**9),
        lambda: check_kv_fits(10**12, 10**12, 10**9),
        lambda: num_kv_blocks(1, 32, 10**6, 10**3),
    ):
        with pytest.raises(ModelError) as refused:
            refuse()
        words.append(str(refused.value))
    return words


@pytest.mark.parametrize("words", [*refusals(), f"group 0 died: rank 0.0: {OUT_OF_MEMORY}"])
def test_too_little_memory_is_known_from_our_own_words(words: str) -> None:
    death = death_from([words, "no group is left"], [], 1)
    assert death.is_out_of_memory
    assert (death.reason, death.words) == (words.splitlines()[0], words)


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
        "OSError: [Errno 12] Cannot allocate memory",
        "MemoryError",
    ],
)
def test_too_little_memory_is_known_from_words_of_libraries(line: str) -> None:
    death = death_from([], ["Traceback (most recent call last):", "  ...", line, ""], 1)
    assert death.is_out_of_memory
    assert death.reason == line


def test_first_fault_is_the_cause() -> None:
    death = death_from(["group 1 died: killed", "no group is left"], ["noise"], 1)
    assert (death.reason, death.is_out_of_memory) == ("group 1 died: killed", False)


def test_refused_flag_is_told_without_the_hint_below_it() -> None:
    lines = ["unisono: there is no flag --tpp; did you mean --tp?", "see unisono serve --help"]
    assert death_from([], lines, 2).reason == "there is no flag --tpp; did you mean --tp?"


@pytest.mark.parametrize(
    ("status", "words"),
    [(None, "did not serve"), (-9, "was killed by SIGKILL"), (3, "ended with status 3")],
)
def test_end_without_words_is_told_by_its_status(status: int | None, words: str) -> None:
    assert death_from([], ["", " "], status).reason == f"it {words} without a word"
