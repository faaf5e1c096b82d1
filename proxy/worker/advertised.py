"""Which of several advertised proxies answer: one that does not is shown to cluster clients as the owner of nothing."""

import asyncio
import contextlib
import logging

from proxy.session.virtual_cluster import Address, Presented

log = logging.getLogger(__name__)

_PING = b"PING\r\n"
_MOST = 64
"""Bytes of an answer that are waited for; that there is one is all that matters."""


async def look(shown: Presented, refresh: float, connect_timeout: float) -> None:
    """Ask each of them twice in ``refresh`` seconds, so that a change is known within it. Never returns."""
    patience = min(connect_timeout, refresh / 2)
    while True:
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(_answers(address, patience) for address in shown.advertised))
        for address, found in zip(shown.advertised, answers, strict=True):
            _note(shown, address, found)
        await asyncio.sleep(max(began + refresh / 2 - asyncio.get_running_loop().time(), 0.01))


def _note(shown: Presented, address: Address, found: Address | None) -> None:
    if found is None:
        if address not in shown.silent:
            log.warning("advertised proxy does not answer address=%s:%d", *address)
            shown.silent.add(address)
        return
    if address in shown.silent:
        log.info("advertised proxy answers again address=%s:%d", *address)
    shown.silent.discard(address)
    shown.found[address] = found


async def _answers(address: Address, patience: float) -> Address | None:
    """Where the server at ``address`` was found, if it says anything within ``patience`` seconds; None if it does not.

    A listener that wants TLS or a PROXY header closes, or sends an alert: that is an answer too. A process that hangs
    says nothing, though its system takes the connection.
    """
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(*address)
            try:
                host, port = writer.get_extra_info("peername")[:2]
                writer.write(_PING)
                with contextlib.suppress(ConnectionError):
                    await reader.read(_MOST)
                return str(host), int(port)
            finally:
                writer.transport.abort()
    return None
