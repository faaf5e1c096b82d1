"""The loop over the requests of a client: each is given to the first of three paths that takes it.

::

    fast_path        plain commands, forwarded without being decoded   while ``client.plain``
    own_fast_path    the proxy's own answers                           unless ``client.own`` is ClientMode.LONG
    slow_path        everything else

A client's requests are carried out until the credit of its turn is used up; then other clients are served.
"""

from proxy.client.client import Client
from proxy.client.fast_path import run as run_fast_path
from proxy.client.own_fast_path import answer, repeat
from proxy.client.pacing import Pacing
from proxy.client.slow_path import carry_out, carry_out_nothing
from proxy.transport.flow_control import Stop
from proxy.transport.write_batch import BYTES, OWN, SLOW, Turn

_FULL = Stop.FULL
_TURN = Stop.TURN
_SLOW_COST = SLOW
_OWN = OWN
_BYTES_SHIFT = BYTES.bit_length() - 1


def carry_out_all(client: Client, data: bytes, pos: int, now: float, turn: Turn, more: bool) -> int:
    """Carry out the requests in ``data[pos:]``; ``more``: further requests follow ``data``.

    Returns the offset of the first request that is not carried out, ``~offset`` if it is incomplete. Raises
    ``ProtocolError``.
    """
    client.last_active = now
    view = data
    size = len(data)
    end = 0
    flow = client.flow
    window = client.window
    while True:
        if client.plain:
            before = window.issued
            begun = pos
            pos = run_fast_path(client, data, pos, now, turn.credit)
            taken = (pos - begun) >> _BYTES_SHIFT
            turn.credit -= max(window.issued - before, taken)
        if pos >= size or flow.stopped:
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
        if client.own:
            begun = pos
            pos = repeat(client, data, pos, turn, more)
            if pos > begun:
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
        pos = end
        if client.closing or flow.stopped:
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
