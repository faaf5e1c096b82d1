"""The loop over the requests of a client: each is given to the first of three paths that takes it.

::

    fast_path        plain commands, forwarded without being decoded   while ``client.plain``
    own_fast_path    the proxy's own answers                           unless ``client.own`` is ClientMode.LONG
    slow_path        everything else

A client's requests are carried out until the credit of its turn is used up; then other clients are served. Those of a
client with a ``Quota`` are carried out in pieces of what the quota allows.
"""

from typing import cast

from proxy.client.allowance import CREDIT, PLENTY
from proxy.client.client import Client
from proxy.client.fast_path import run as run_fast_path
from proxy.client.own_fast_path import answer, repeat
from proxy.client.pacing import Pacing
from proxy.client.quota import Quota
from proxy.client.slow_path import carry_out, carry_out_nothing, refuse
from proxy.resp import encode
from proxy.transport.flow_control import Stop
from proxy.transport.write_batch import BYTES, LOOK, OWN, SLOW, Turn

_FULL = Stop.FULL
_TURN = Stop.TURN
_SLOW_COST = SLOW
_OWN = OWN
_BYTES_SHIFT = BYTES.bit_length() - 1
_PLENTY = PLENTY
_REPEATED = LOOK
"""The most requests that ``repeat`` answers in one call, with all the credit that there is between two looks."""
assert CREDIT == BYTES


def carry_out_all(client: Client, data: bytes, pos: int, now: float, turn: Turn, more: bool) -> int:
    """Carry out the requests in ``data[pos:]``; ``more``: further requests follow ``data``.

    Returns the offset of the first request that is not carried out, ``~offset`` if it is incomplete. Raises
    ``ProtocolError``.
    """
    if client.flow.quota is None:
        pos = _carry_out(client, data, pos, now, turn, more, _PLENTY)
        if client.flow.quota is None:
            return pos
    return _carry_out_limited(client, data, pos, now, turn, more)


def _carry_out_limited(client: Client, data: bytes, pos: int, now: float, turn: Turn, more: bool) -> int:
    """Do the same for a client with a quota, which may get another one or none at each login."""
    size = len(data)
    flow = client.flow
    while 0 <= pos < size and not (flow.stopped or client.closing):
        if flow.quota is None:
            pos = _carry_out(client, data, pos, now, turn, more, _PLENTY)
            if flow.quota is None:
                break
            continue
        quota = cast(Quota, flow.quota)
        if error := quota.before_login(True, 0) if quota.stranger else "":
            _close(client, error)
            break
        allowed = quota.allowed(now)
        begun = pos
        if allowed > 0:
            pos = _carry_out(client, data, pos, now, turn, more, allowed)
            quota.charge((pos if pos >= 0 else ~pos) - begun)
            if quota.stranger and flow.quota is quota and not client.closing:
                part = 0 if pos >= 0 else max(size - ~pos, client.framer().need)
                if error := quota.before_login(part > 0, part):
                    _close(client, error)
            if pos == begun:
                break
        elif error := quota.over(now):
            pos = _refuse_one(client, data, pos, turn, more, error)
            quota.skip()
    return pos


def _refuse_one(client: Client, data: bytes, pos: int, turn: Turn, more: bool, error: str) -> int:
    """Answer the request at ``data[pos:]`` with ``error``. Returns its end, ``~pos`` if it is incomplete."""
    framer = client.framer()
    end = framer.frame(data, pos)
    if end < 0:
        return ~pos
    client.window.gathers = more or end < len(data)
    if framer.empty:
        carry_out_nothing(client, data[pos:end])
    else:
        refuse(client, data[pos:end], error)
    client.window.gathers = False
    turn.credit -= _SLOW_COST
    if turn.credit <= 0 and turn.over():
        wait(client, turn)
    return end


def _close(client: Client, error: str) -> None:
    """Close the connection of a client that has exceeded a bound before its login, behind the reply ``error``."""
    client.service.counters.reject("login limit")
    client.window.answer(encode.error(error))
    client.drain()


def _carry_out(client: Client, data: bytes, pos: int, now: float, turn: Turn, more: bool, allowed: int) -> int:
    """Do what ``carry_out_all`` does, until ``allowed`` requests are carried out, those of more than ``BYTES`` bytes
    counted more than once, or the client has another quota."""
    client.last_active = now
    view = data
    size = len(data)
    end = 0
    flow = client.flow
    window = client.window
    quota = flow.quota
    while True:
        if client.plain:
            before = window.issued
            begun = pos
            pos = run_fast_path(client, data, pos, now, min(turn.credit, allowed))
            taken = max(window.issued - before, (pos - begun) >> _BYTES_SHIFT)
            turn.credit -= taken
            allowed -= taken
        if pos >= size or flow.stopped or allowed <= 0:
            break
        if turn.credit <= 0:
            if turn.over():
                wait(client, turn)
                break
            continue
        if window.pending >= client.most:
            if not window.ready:
                pace(client)
                if window.pending < client.most:
                    continue
            flow.stop(_FULL)
            break
        if client.own and allowed >= _REPEATED:
            begun = pos
            pos = repeat(client, data, pos, turn, more)
            if pos > begun:
                allowed -= _REPEATED
                continue
        framer = client.framer()
        end = framer.frame(data, pos)
        if end < 0:
            break
        window.gathers = more or end < size
        if framer.empty:
            turn.credit -= 1
            carry_out_nothing(client, view[pos:end])
        else:
            frame = view[pos:end]
            if client.own and answer(client, frame, framer.inline):
                turn.credit -= _OWN
            else:
                turn.credit -= _SLOW_COST
                if not carry_out(client, frame, now):
                    break
        allowed -= max(1, (end - pos) >> _BYTES_SHIFT)
        pos = end
        if client.closing or flow.stopped or flow.quota is not quota:
            break
    window.gathers = False
    return pos if end >= 0 else ~pos


def pace(client: Client) -> None:
    """Set the number of requests in flight to what the client's replies allow."""
    pacing = client.pacing
    if pacing is None:
        pacing = client.pacing = Pacing()
    client.most = pacing.fit(client.window, client.service.limits, client.most)


def wait(client: Client, turn: Turn) -> None:
    """Stop reading from a client that has had its share of this turn; it goes on when the other clients have had
    theirs."""
    client.flow.stop(_TURN)
    turn.wait(client)
