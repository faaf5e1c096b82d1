"""Room for one large request, filled piece by piece."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.engine.receive_buffer import Room


def fill(room: Room, piece: bytes) -> None:
    """What a transport does: read into the buffer, and say how much it was."""
    with memoryview(room.buffer()) as view:
        view[: len(piece)] = piece
    room.filled(len(piece))


@given(st.binary(min_size=1, max_size=200), st.integers(0, 200), st.lists(st.integers(1, 50), max_size=20))
def test_what_is_filled_in_is_taken_out(whole: bytes, begun: int, sizes: list[int]) -> None:
    at = min(begun, len(whole))
    room = Room(len(whole), whole[:at])
    while at < len(whole):
        size = min(sizes.pop() if sizes else len(whole), len(whole) - at)
        assert room.left == len(whole) - at
        assert len(memoryview(room.buffer())) == room.left
        fill(room, whole[at : at + size])
        at += size
    assert room.left == 0
    taken = room.take()
    assert type(taken) is bytes
    assert taken == whole


def test_a_request_of_one_byte_is_its_own() -> None:
    """Short bytes are shared by the interpreter: what is written to must not be."""
    for byte in (b"a", b"b"):
        room = Room(1, b"")
        fill(room, byte)
        assert room.take() == byte
    assert (bytes([97]), bytes([0])) == (b"a", b"\0")


def test_a_piece_may_be_written_before_it_is_counted() -> None:
    room = Room(6, b"ab")
    with memoryview(room.buffer()) as view:
        view[:] = b"cdXX"
    room.filled(2)
    fill(room, b"ef")
    assert room.take() == b"abcdef"


def test_it_is_taken_once() -> None:
    room = Room(2, b"ab")
    assert room.take() == b"ab"
    assert room.take() == b""
    assert len(memoryview(room.buffer())) == 0


def test_what_was_taken_stays() -> None:
    """The buffer that a transport still holds while the last piece is counted does no harm."""
    room = Room(4, b"ab")
    view = memoryview(room.buffer())
    view[:] = b"cd"
    room.filled(2)
    taken = room.take()
    view.release()
    del room
    assert taken == b"abcd"


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="room"):
        Room(1, b"ab")
    room = Room(4, b"ab")
    with pytest.raises(ValueError, match="room"):
        room.filled(3)
    with pytest.raises(ValueError, match="room"):
        room.filled(-1)
    with pytest.raises(ValueError, match="full"):
        room.take()
    assert room.left == 2
