import os
from collections.abc import Iterator

import pytest

from gateway.telemetry.page import PAGE_BYTES, Page, create_page


@pytest.fixture
def fd() -> Iterator[int]:
    fd = create_page()
    yield fd
    os.close(fd)


def test_reader_gets_the_last_record(fd: int) -> None:
    writer, reader = Page(fd), Page(fd)
    assert reader.read() is None
    for record in (b"first", b"", b"a longer one than before", b"short"):
        writer.write(record)
        assert reader.read() == record


def test_successor_goes_on_where_a_writer_died_half_way(fd: int) -> None:
    writer, reader = Page(fd), Page(fd)
    writer.write(b"whole")
    os.pwrite(fd, (3).to_bytes(8, "little"), 0)  # odd: being written
    assert reader.read() is None
    Page(fd).write(b"next")
    assert reader.read() == b"next"


def test_damaged_record_is_not_read(fd: int) -> None:
    Page(fd).write(b"record")
    os.pwrite(fd, b"X", 16)
    assert Page(fd).read() is None


def test_record_that_does_not_fit_leaves_the_old_one(fd: int) -> None:
    page = Page(fd)
    page.write(b"old")
    with pytest.raises(ValueError, match="does not fit"):
        page.write(bytes(PAGE_BYTES))
    assert page.read() == b"old"


def test_page_has_no_name(fd: int) -> None:
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")
