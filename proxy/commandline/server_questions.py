"""Connects to every server and sentinel of a configuration, and asks what ``slotgate check --connect`` judges."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

from proxy.backends.handshake import Credentials
from proxy.backends.query import Line, ask
from proxy.commandline.findings import Finding, Severity
from proxy.commandline.server_advice import judge_all, row
from proxy.commandline.server_facts import QUESTIONS, NamedServer, ReportedFacts, read
from proxy.config import Config
from proxy.config.words import suggestion
from proxy.discovery import clusterview, sentinelview
from proxy.discovery.learn import slots_served
from proxy.errors import BackendError
from proxy.planning.refusals import remapped
from proxy.sharding.slots import SLOTS
from proxy.sharding.topology import Node, build_topology, format_ranges
from proxy.transport.tls import sentinel_tls
from proxy.worker.made_from_config import credentials_of, credentials_of_users

_AT_ONCE = 64
"""The most servers that are asked at the same time."""
_BESIDE_CONNECT = 3.0
"""The seconds that a server has for its answers, beside those for the connection."""
_FAILURES = (OSError, TimeoutError, BackendError)
Rows = list[dict[str, str]]


def inspect(config: Config) -> tuple[Rows, list[Finding]]:
    """Ask all servers and sentinels of ``config``. Returns a row for each, and the findings."""
    # The findings have the words for people; the log of the modules that connect would repeat them.
    logging.getLogger("proxy").addHandler(logging.NullHandler())
    return asyncio.run(Inspection(config).run())


class Inspection:
    """The questions to the servers of one configuration, and what is found."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._credentials = credentials_of(config)
        self._patience = config.backend.connect_timeout + _BESIDE_CONNECT
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._findings: list[Finding] = []
        self._rows: Rows = []

    async def run(self) -> tuple[Rows, list[Finding]]:
        """Find the servers, ask all of them, and judge the answers."""
        places = await self._places()
        facts = await asyncio.gather(*map(self._facts, places))
        if self._config.topology.kind == "static" and self._config.topology.discover_replicas:
            facts += await asyncio.gather(*map(self._facts, self._discovered(facts)))
        judged = [*judge_all(facts, self._config), *await self._users(facts)]
        self._rows += [row(each, judged) for each in facts]
        return self._rows, [*self._findings, *judged]

    async def _facts(self, place: NamedServer) -> ReportedFacts:
        line = Line(place.node, self._credentials)
        try:
            async with self._gate, asyncio.timeout(self._patience):
                replies = await line.connect(QUESTIONS)
                facts = read(place, replies, line.certificate_expires)
        except _FAILURES as error:
            return ReportedFacts(place, failure=failure_words(error, self._patience))
        finally:
            line.close()
        if facts.clustered and self._config.topology.kind != "cluster":
            return replace(facts, slots=await slots_served(place.node, self._credentials))
        return facts

    async def _users(self, servers: Sequence[ReportedFacts]) -> list[Finding]:
        """Find the users of the servers (``backend_user``) that a server refuses."""

        async def refusal(name: str, credentials: Credentials, facts: ReportedFacts) -> Iterator[Finding]:
            try:
                async with self._gate:
                    await ask(facts.place.node, credentials, (("PING",),), self._patience)
            except _FAILURES as error:
                where = f"{facts.place.node} ({facts.place.shard})"
                words = f'refuses the backend_user "{name}": {failure_words(error, self._patience)}'
                return iter((Finding("error", where, words),))
            return iter(())

        found = await asyncio.gather(
            *(
                refusal(name, credentials, facts)
                for name, credentials in credentials_of_users(self._config).items()
                for facts in servers
                if not facts.failure
            )
        )
        return [each for findings in found for each in findings]

    async def _places(self) -> list[NamedServer]:
        match self._config.topology.kind:
            case "cluster":
                return await self._places_of_cluster()
            case "sentinel":
                return await self._places_of_sentinels()
        shards = build_topology(self._config).shards
        return [place for each in shards for place in _members(each.name, each.primary, each.replicas)]

    def _discovered(self, servers: Sequence[ReportedFacts]) -> list[NamedServer]:
        """Return the replicas that primaries report and the configuration does not name."""
        remap, named = self._config.topology.remap, {each.place.node for each in servers}
        found = []
        for facts in servers:
            for host, port in facts.replicas if facts.place.expected == "primary" else ():
                node = remapped(Node(host, port), remap)
                if node not in named:
                    named.add(node)
                    found.append(NamedServer(node, facts.place.shard, "replica", facts.place.node))
        return found

    # ---- Redis Cluster

    async def _places_of_cluster(self) -> list[NamedServer]:
        seeds = [Node(address.host, address.port) for address in self._config.cluster.seeds]
        answers = await asyncio.gather(*map(self._view, seeds))
        views = [answer for answer in answers if isinstance(answer, clusterview.View)]
        for seed, answer in zip(seeds, answers, strict=True):
            if isinstance(answer, str):
                # One seed that answers is enough, so that a dead one is a matter for later.
                self._findings.append(Finding("warning" if views else "error", f"{seed} (seed)", answer))
        if not views:
            return []
        view = views[0]
        for other in views[1:]:
            if set(view.members).isdisjoint(other.members):
                words = f"is a node of another cluster than {view.asked}: name the nodes of one"
                self._findings.append(Finding("error", f"{other.asked} (seed)", words))
        unowned = sum(last - first + 1 for first, last, owner, _ in view.chart if owner not in view.members)
        if unowned:
            words = (
                f"{unowned} of the {SLOTS} slots have no owner, and their keys get errors: run redis-cli --cluster "
                f"check {view.asked}, and --cluster fix"
            )
            self._findings.append(Finding("error", "cluster", words))
        places = []
        for identity, member in view.members.items():
            if member.node is None:
                continue
            owner = member.primary or identity
            ranges = [(first, last) for first, last, slots_of, _ in view.chart if slots_of == owner]
            primary = view.members.get(member.primary)
            shard = _short(format_ranges(ranges)) or "no slots"
            place = NamedServer(
                member.node, shard, "replica" if member.primary else "primary", primary.node if primary else None
            )
            places.append(place)
            self._announced(view.asked, place.node, "cluster-announce-ip")
        return sorted(places, key=lambda place: (place.shard == "no slots", _first(place.shard), place.expected))

    async def _view(self, seed: Node) -> clusterview.View | str:
        """Return the view that ``seed`` has of its cluster, or why it has none."""
        rest, remap = (clusterview.NODES, clusterview.MYID), self._config.topology.remap
        try:
            found, nodes, identity = await ask(seed, self._credentials, (clusterview.SHARDS, *rest), self._patience)
            if isinstance(found, Exception):
                found, nodes, identity = await ask(seed, self._credentials, (clusterview.OLDER, *rest), self._patience)
            return clusterview.read(seed, found, nodes, remap, self._config.backend.tls, identity)
        except clusterview.NoView as error:
            return f"{error}"
        except _FAILURES as error:
            return failure_words(error, self._patience)

    def _announced(self, asked: Node, node: Node, setting: str) -> None:
        """Note an address that only the server's own machine can use."""
        if _is_loopback(node.host) and not _is_loopback(asked.host):
            words = (
                f"{asked} announces it at a loopback address, which leads to this machine: set {setting} there, or "
                "topology.remap here"
            )
            self._findings.append(Finding("error", str(node), words))

    # ---- Sentinel

    async def _places_of_sentinels(self) -> list[NamedServer]:
        section = self._config.sentinel
        sentinels = [Node(address.host, address.port) for address in section.sentinels]
        password = section.password.get_secret_value() if section.password else ""
        credentials = Credentials(section.username or "", password, sentinel_tls(self._config))
        answers = await asyncio.gather(*(self._report(each, credentials) for each in sentinels))
        reports = {
            each: answer
            for each, answer in zip(sentinels, answers, strict=True)
            if isinstance(answer, sentinelview.SentinelReport)
        }
        for sentinel, answer in zip(sentinels, answers, strict=True):
            if isinstance(answer, str):
                severity: Severity = "warning" if reports else "error"
                self._findings.append(Finding(severity, f"{sentinel} (sentinel)", answer))
            else:
                await self._judge_report(sentinel, answer, credentials)
            state = answer if isinstance(answer, str) else "ok"
            self._rows.append(_row_of_sentinel(sentinel, "ok" if state == "ok" else "error"))
        places = []
        for name in section.masters:
            masters = {each: report.masters[name] for each, report in reports.items() if name in report.masters}
            if not masters:
                continue
            first, master = next(iter(masters.items()))
            for other, seen in masters.items():
                if seen.node != master.node:
                    words = (
                        f'names {seen.node} as master of "{name}", but {first} names {master.node}: it is cut off, or '
                        "monitors another one"
                    )
                    self._findings.append(Finding("warning", f"{other} (sentinel)", words))
            self._announced(first, master.node, "replica-announce-ip or sentinel announce-ip")
            places += _members(name, master.node, [each.node for each in master.followers])
        return places

    async def _report(self, sentinel: Node, credentials: Credentials) -> sentinelview.SentinelReport | str:
        names = self._config.sentinel.masters
        try:
            replies = await ask(sentinel, credentials, sentinelview.questions(names), self._patience)
            if sentinelview.is_old(replies):
                replies = await ask(sentinel, credentials, sentinelview.questions(names, "SLAVES"), self._patience)
            return sentinelview.read(sentinel, names, [_missing(each) for each in replies], self._config.topology.remap)
        except sentinelview.NoSentinel as error:
            return str(error)
        except _FAILURES as error:
            return failure_words(error, self._patience).replace("[backend]", "[sentinel]")

    async def _judge_report(
        self, sentinel: Node, report: sentinelview.SentinelReport, credentials: Credentials
    ) -> None:
        where = f"{sentinel} (sentinel)"
        for name in self._config.sentinel.masters:
            if name not in report.masters:
                known = await self._masters_of(sentinel, credentials)
                close = suggestion(name, known) or f": it knows {', '.join(sorted(known)) or 'none'}"
                words = f'knows no master "{name}"{close}'
                self._findings.append(Finding("error", where, words))
            elif not report.masters[name].peers:
                words = (
                    f'is the only sentinel of "{name}", so that no other one confirms that a primary is down: run three'
                )
                self._findings.append(Finding("warning", where, words))

    async def _masters_of(self, sentinel: Node, credentials: Credentials) -> set[str]:
        try:
            (reply,) = await ask(sentinel, credentials, (("SENTINEL", "MASTERS"),), self._patience)
        except _FAILURES:
            return set()
        rows = (each for each in (reply if isinstance(reply, list) else ()) if isinstance(each, list))
        names = (dict(zip(each[::2], each[1::2], strict=False)).get(b"name") for each in rows)
        return {name.decode("utf-8", "replace") for name in names if isinstance(name, bytes)}


def failure_words(error: Exception, patience: float) -> str:
    """Return why a server could not be asked, and what to do."""
    words = str(error)
    if isinstance(error, TimeoutError):
        return (
            f"does not answer within {patience:g} s: a firewall may drop the packets, the server may hang, or the "
            "address may be wrong"
        )
    if isinstance(error, socket.gaierror):
        return "has a name that can not be resolved: correct it, or look at your name servers"
    if isinstance(error, OSError):
        by_number = {
            errno.ECONNREFUSED: "refuses the connection: start the server, or correct the port",
            errno.ENOENT: "has no socket there: start the server, or correct the path",
            errno.EACCES: "has a socket that this user may not use: change its mode (unixsocketperm), or the group",
            errno.EHOSTUNREACH: "can not be reached: there is no way to this host. Look at routes and firewalls",
            errno.ENETUNREACH: "can not be reached: there is no way to its network. Look at routes and firewalls",
        }
        return by_number.get(error.errno or 0, f"can not be reached: {error.strerror or words or type(error).__name__}")
    if "WRONGPASS" in words or "invalid password" in words:
        return "refuses the proxy's user or password: correct username and password under [backend]"
    if "without any password configured" in words:
        return "needs no password: leave password out under [backend], or set requirepass there"
    return words


def _members(shard: str, primary: Node, replicas: Sequence[Node]) -> list[NamedServer]:
    return [
        NamedServer(primary, shard, "primary"),
        *(NamedServer(each, shard, "replica", primary) for each in replicas),
    ]


def _missing(reply: object) -> object:
    """Return None for the error that a sentinel answers about a master that it does not know."""
    return None if isinstance(reply, Exception) and "No such master" in str(reply) else reply


def _row_of_sentinel(sentinel: Node, state: str) -> dict[str, str]:
    empty = dict.fromkeys(("shard", "role", "version", "clients", "eviction"), "")
    return {"server": str(sentinel), **empty, "role": "sentinel", "state": state}


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:21]}..."


def _first(ranges: str) -> int:
    start = ranges.split("-")[0].split(",")[0]
    return int(start) if start.isdecimal() else SLOTS


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
