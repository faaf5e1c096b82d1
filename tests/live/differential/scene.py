"""Scenes: what several connections say in turn, written one step a line, played at a server and through the proxy.

    a: GET %k            a sends the command and reads one reply
    a> BLPOP %k 0        a sends the command and reads nothing
    a< 2                 a reads two frames, replies or messages
    a~ 2                 the same, in any order
    a closed             a reads what is left, and the other side closes
    * blocked_clients:1  wait until INFO says so

Connections are single letters, opened when first named. Commands are written as in redis-cli; ``%name`` is a key of the
scene's slot, ``@b`` is the client id of connection b. At the end each connection is asked for a sign of life, so that
nothing that came beside is overlooked.
"""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.resp import encode
from proxy.resp.requests import split_inline
from tests.live.differential.cases import with_tag
from tests.live.differential.compare import name_of
from tests.live.differential.normalise import normaliser
from tests.support.wire import Wire

_STEP = re.compile(r"([a-z*])([:><~]| )\s*(.*)")
_NUMBER = re.compile(rb"^:\d+\r\n", re.MULTILINE)
_FENCE = b"sign-of-life"
_PATIENCE = 15.0
_CLOSED = b"(closed)"
_NOTHING = b"(nothing came)"
_QUEUED = b"+QUEUED\r\n"


@dataclass(frozen=True, slots=True)
class Scene:
    """``protocols``: with which RESP the connections begin."""

    name: str
    steps: tuple[tuple[str, str, str], ...]
    """(connection, sign, the rest of the line)."""
    protocols: tuple[int, ...]

    def commands(self) -> Iterable[list[bytes]]:
        """The commands in it, keys and ids as they are written."""
        return (split_inline(rest.encode()) for _, sign, rest in self.steps if sign in ":>")


@dataclass(frozen=True, slots=True)
class Heard:
    """What came in one step: the frames, and the command that its connection had sent last."""

    step: str
    command: str
    frames: tuple[bytes, ...]
    ordered: bool = True


def scenes(texts: Mapping[str, str], protocols: tuple[int, ...] = (2, 3)) -> list[Scene]:
    """One scene for each entry, name to lines. Raises ValueError for a line that is no step."""
    return [Scene(name, tuple(map(_step, text.strip().splitlines())), protocols) for name, text in texts.items()]


def _step(line: str) -> tuple[str, str, str]:
    found = _STEP.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"no step: {line!r}")
    connection, sign, rest = found.groups()
    return connection, sign, rest


class Play:
    """One scene at one address; ``tag`` is the hash tag of its keys."""

    def __init__(self, address: str, protocol: int, tag: str) -> None:
        self._address = address
        self._protocol = protocol
        self._tag = tag
        self._wires: dict[str, Wire] = {}
        self._ids: dict[str, bytes] = {}
        self._command: dict[str, str] = {}

    def run(self, scene: Scene) -> list[Heard]:
        """What was heard, step by step. Raises TimeoutError where a frame that the scene waits for does not come."""
        try:
            heard = [one for step in scene.steps if (one := self._do(*step)) is not None]
            return heard + [self._end(name) for name in self._wires]
        finally:
            for wire in self._wires.values():
                wire.close()

    def _do(self, name: str, sign: str, rest: str) -> Heard | None:
        if name == "*":
            self._wait_until(rest)
            return None
        wire = self._wire(name)
        step = f"{name}{sign} {rest}"
        if sign in ":>":
            args = [self._argument(argument) for argument in split_inline(rest.encode())]
            self._command[name] = name_of(args)
            try:
                wire.send(encode.request(args))
            except ConnectionError:
                return self._heard(step, name, [_CLOSED])
            return self._heard(step, name, self._frames(wire, 1)) if sign == ":" else None
        if sign == " ":
            assert rest == "closed", step
            with self._wires.pop(name):
                return self._heard(step, name, [wire.rest()])
        return self._heard(step, name, self._frames(wire, int(rest)), ordered=sign == "<")

    def _heard(self, step: str, name: str, frames: Iterable[bytes], *, ordered: bool = True) -> Heard:
        return Heard(step, self._command.get(name, ""), tuple(map(self._without_ids, frames)), ordered)

    def _frames(self, wire: Wire, count: int) -> list[bytes]:
        """So many frames, fewer if the other side closes."""
        frames: list[bytes] = []
        try:
            while len(frames) < count:
                frames.append(wire.reply())
        except ConnectionError:
            frames.append(_CLOSED)
        except TimeoutError:
            frames.append(_NOTHING)
        return frames

    def _end(self, name: str) -> Heard:
        wire = self._wires[name]
        frames: list[bytes] = []
        try:
            wire.send(encode.request([b"PING", _FENCE]))
            while not frames or not (_FENCE in frames[-1] or frames[-1] in (_QUEUED, _CLOSED, _NOTHING)):
                frames += self._frames(wire, 1)
        except ConnectionError:
            frames.append(_CLOSED)
        return Heard(f"{name} at the end", "", tuple(frames))

    def _wire(self, name: str) -> Wire:
        wire = self._wires.get(name)
        if wire is None:
            wire = self._wires[name] = Wire(self._address, protocol=self._protocol)
            self._ids[name] = wire.ask("CLIENT", "ID")[1:-2]
        return wire

    def _argument(self, argument: bytes) -> bytes:
        if len(argument) == 2 and argument[:1] == b"@":
            other = argument[1:].decode()
            self._wire(other)
            return self._ids[other]
        return with_tag(argument, self._tag)

    def _without_ids(self, frame: bytes) -> bytes:
        """Ids of connections (the only integers past 2, and never of another meaning, in what names them)."""
        for name, number in self._ids.items():
            frame = frame.replace(b"redirect\r\n:%b\r\n" % number, b"redirect\r\n@%b\r\n" % name.encode())
        return frame

    def _wait_until(self, line: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        wire = self._wire("*")
        wanted = b"\r\n%b\r\n" % line.encode()
        while wanted not in wire.ask("INFO"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"INFO does not say {line}")
            time.sleep(0.005)


def scene_differences(kind: str, expected: list[Heard], found: list[Heard]) -> list[str]:
    """One text for each step that went otherwise through the proxy than at a server of this kind."""
    different = []
    for left, right in zip(expected, found, strict=True):
        compared = normaliser(left.command, kind)
        one, other = list(map(compared, left.frames)), list(map(compared, right.frames))
        if not left.ordered:
            one, other = _in_any_order(left.frames), _in_any_order(right.frames)
        if one != other:
            different.append(f"{left.step}\n     server: {left.frames!r}\n     proxy:  {right.frames!r}")
    return different


def _in_any_order(frames: Iterable[bytes]) -> list[object]:
    """The frames, and apart from them the counts in them, as those go by the order."""
    numbers = sorted(number for frame in frames for number in _NUMBER.findall(frame))
    return [*sorted(_NUMBER.sub(b"", frame) for frame in frames), *numbers]
