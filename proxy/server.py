"""The process: listeners, signals, start and end."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from proxy import __version__, logs
from proxy.admin import Admin
from proxy.client import ClientConnection
from proxy.config import Address, Config
from proxy.discovery.learn import Learned, absent, complete, fewest_databases, learn_all, lowest_version, smallest_bulk
from proxy.enginekind import WARNING, engine
from proxy.errors import SlotgateError
from proxy.service import Service
from proxy.topology import Node, build_topology

log = logging.getLogger(__name__)

_BACKLOG = 4096
_COLLECT_AFTER = 20_000
_LEARN_AGAIN = 1.0
_DRAIN_STEP = 0.02


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT, then drain; the process's exit code.

    Raises ``SlotgateError`` if an address can not be listened on.
    """
    logs.configure(config.log.level, config.log.format)
    if engine() == "python":
        log.warning(WARNING)
    # What is there at the start stays: the collector need not look at it, nor look often at what requests leave behind.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    uvloop.run(serve(config))
    return 0


async def serve(config: Config) -> None:
    """Serve ``config`` in the running loop until a signal asks for the end."""
    loop = asyncio.get_running_loop()
    topology = build_topology(config)
    service = Service(config, topology)
    admin = Admin(service)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, log.warning, "SIGHUP ignored: this version reloads nothing, restart instead")
    learner = loop.create_task(keep_learning(service), name="learn")
    servers: list[asyncio.AbstractServer] = []
    admin_server: asyncio.AbstractServer | None = None
    try:
        # The first answers tell which commands there are; a backend that is down must not keep the proxy from starting.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(service.learned.wait()), config.backend.connect_timeout)
        for address in config.listen:
            server = await _listen(service, address)
            servers.append(server)
        if config.admin is not None:
            admin_server = await _listen_admin(admin, config.admin)
        log.info(
            "serving version=%s engine=%s listen=%s admin=%s shards=%d read_from=%s pid=%d",
            __version__,
            engine(),
            ",".join(map(str, config.listen)),
            config.admin or "off",
            len(topology.shards),
            config.read_from,
            os.getpid(),
        )
        await stop.wait()
        admin.draining = True
        await _drain(service, servers, config.drain_timeout)
    finally:
        learner.cancel()
        await asyncio.gather(learner, return_exceptions=True)
        for server in servers:
            server.close()
        if admin_server is not None:
            admin_server.close()
        for client in service.clients:
            client.close()
        await service.pool.close()
        _unlink_sockets(config.listen)
    log.info("stopped")


async def keep_learning(service: Service) -> None:
    """Ask every primary for its facts: at the start, and again when it comes back after a lost connection."""
    primaries = [shard.primary for shard in service.topology.shards]
    known: dict[Node, Learned] = {}
    while True:
        missing = [node for node in primaries if node not in known]
        if missing:
            answers = await learn_all(missing, service.credentials)
            known |= answers
            if answers:
                _adopt(service, list(known.values()))
            if len(answers) < len(missing):
                await asyncio.sleep(_LEARN_AGAIN)
                continue
            service.absent = absent(service.table, list(known.values()))
            service.learned.set()
        await service.changed.wait()
        service.changed.clear()
        for backend in [backend for backend in service.restarted if backend.ready]:
            service.restarted.discard(backend)
            known.pop(backend.place.node, None)


def _adopt(service: Service, answers: Sequence[Learned]) -> None:
    service.learn(complete(service.table, answers))
    service.world.server_version = lowest_version(answers) or service.world.server_version
    service.world.databases = fewest_databases(answers) or service.world.databases
    service.limit_bulk(smallest_bulk(answers))


async def _listen(service: Service, address: Address) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    try:
        if not address.unix:
            return await loop.create_server(
                partial(ClientConnection, service), address.host, address.port, backlog=_BACKLOG
            )
        _remove_stale_socket(address.host)
        return await loop.create_unix_server(partial(ClientConnection, service), address.host, backlog=_BACKLOG)
    except OSError as error:
        raise _can_not_listen(address, error) from error


async def _listen_admin(admin: Admin, address: Address) -> asyncio.AbstractServer:
    try:
        if not address.unix:
            return await asyncio.start_server(admin.serve, address.host, address.port)
        _remove_stale_socket(address.host)
        return await asyncio.start_unix_server(admin.serve, address.host)
    except OSError as error:
        raise _can_not_listen(address, error) from error


def _can_not_listen(address: Address, error: OSError) -> SlotgateError:
    return SlotgateError(
        f"can not listen on {address}: {os.strerror(error.errno) if error.errno else error}. "
        "Stop what uses it, or choose another address (listen, admin)"
    )


def _remove_stale_socket(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)


def _unlink_sockets(addresses: Sequence[Address]) -> None:
    for address in addresses:
        if address.unix:
            Path(address.host).unlink(missing_ok=True)


async def _drain(service: Service, servers: Sequence[asyncio.AbstractServer], timeout: float) -> None:
    """Take no new clients or requests; wait until what is in flight is answered, ``timeout`` seconds at most."""
    log.info("draining clients=%d timeout=%gs", len(service.clients), timeout)
    for server in servers:
        server.close()
    for client in service.clients:
        client.drain()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while len(service.clients) and loop.time() < deadline:  # noqa: ASYNC110 - clients tell nobody when they are gone
        await asyncio.sleep(_DRAIN_STEP)
