"""The configuration as frozen models: one class for each table of the file, each default with its reason.

Durations are seconds and sizes are bytes once parsed; defaults are written as an operator writes them.
"""

from __future__ import annotations

from math import ceil
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from proxy.config import machine
from proxy.config.admin import AdminSection, from_address
from proxy.config.audit import AuditSection
from proxy.config.certificates import TLS_FILES
from proxy.config.client_limits import ConnectionLimits
from proxy.config.colocate import ColocateSection
from proxy.config.listeners import ListenerSection, PresentAs
from proxy.config.secret import full_path, read_secret
from proxy.config.section import DAY as _DAY
from proxy.config.section import Section, short_name
from proxy.config.section import default as _default
from proxy.config.section import one_or_many as _one_or_many
from proxy.config.users import User, default_user
from proxy.config.values import (
    AddressMap,
    Count,
    Duration,
    ListenAddress,
    Memory,
    Percent,
    ReadFrom,
    ServerAddress,
    Size,
    SlotRanges,
    TrustedProxy,
    Workers,
)

_KEEPALIVE_MAX = 32767.0
"""The largest number of seconds that Linux accepts (TCP_KEEPIDLE)."""

Servers = Annotated[tuple[ServerAddress, ...], BeforeValidator(_one_or_many)]


class TopologySection(Section):
    """The table ``[topology]``: how the shards are found."""

    kind: Literal["static", "cluster", "sentinel"] = _default(
        "static", "The shards are those named in this file: no other service has to run."
    )
    discover_replicas: bool = _default(False, "A static topology is what the file names, unless discovery is on.")
    check_roles: bool = _default(
        True, "A replica in a primary's place refuses every write, and answers reads with data that may be old."
    )
    refresh: Duration = _default(
        "10s", "Redirections and lost connections refresh at once; this finds changes without them.", gt=0, le=_DAY
    )
    remap: AddressMap = _default({}, "Servers are reached at the addresses that they announce.")


class ClusterSection(Section):
    """The table ``[cluster]``: the nodes that are asked for the topology of a Redis Cluster."""

    seeds: Servers = _default((), "Required for a cluster: two or three of its nodes, one of which has to answer.")


class SentinelSection(Section):
    """The table ``[sentinel]``: the sentinels, how to log in to them, and the master names, each of which is a
    shard."""

    sentinels: Servers = _default((), "Required with sentinels: one has to answer, and names the others.")
    masters: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = _default(
        (), "Required with sentinels: the slots are divided evenly over them, in this order."
    )
    username: str | None = _default(None, "None: the sentinels' default user.")
    password: SecretStr | None = _default(None, "None: sentinels require no password by default.")
    password_env: str | None = _default(None, "None: see password.")
    password_file: str | None = _default(None, "None: see password.")
    tls: bool = _default(False, "Sentinels do not speak TLS by default. The files are those of [backend].")

    @model_validator(mode="after")
    def _resolve_password(self, info: ValidationInfo) -> Self:
        secret = read_secret(self, info.context)
        object.__setattr__(self, "password", None if secret is None else SecretStr(secret))
        return self


class ShardSection(Section):
    """One table ``[[shards]]``: a primary, its replicas, and the slots of the shard."""

    name: Annotated[str, AfterValidator(short_name)] = _default(
        "", "The shard's position gives the name, shard-1, shard-2 and so on: names are only for people."
    )
    primary: ServerAddress = Field(description="Required: the server that takes the writes.")
    replicas: tuple[ServerAddress, ...] = _default((), "None: a shard works without replicas.")
    slots: SlotRanges | None = _default(
        None, "The slots are divided evenly, as redis-cli divides them, which suits a new set of shards."
    )


def _name_shards(shards: tuple[ShardSection, ...]) -> tuple[ShardSection, ...]:
    return tuple(
        shard if shard.name else shard.model_copy(update={"name": f"shard-{position}"})
        for position, shard in enumerate(shards, start=1)
    )


class BackendSection(Section):
    """The table ``[backend]``: connections to the servers."""

    connections_per_node: Count = _default(
        1, "Pipelining uses one connection fully; more only split the batches.", ge=1, le=1024
    )
    connect_timeout: Duration = _default(
        "1s", "Inside one network, a connect that takes longer does not succeed.", gt=0, le=_DAY
    )
    request_timeout: Duration = _default(
        "15s", "Time for a failover, and then for a slow script or a big KEYS.", gt=0, le=_DAY
    )
    retry_deadline: Duration = _default(
        "10s", "Time for a failover by Sentinel, or of a cluster with a node timeout of 5 seconds.", ge=0, le=_DAY
    )
    backoff_min: Duration = _default(
        "50ms", "A restarted server is found again at once, without a busy loop.", gt=0, le=_DAY
    )
    backoff_max: Duration = _default(
        "2s", "A server that was down for long is used again 2 seconds after its return.", gt=0, le=_DAY
    )
    dedicated_connections: Count = _default(
        1000, "A tenth of what a Redis server takes: many clients may block or watch at once.", ge=1, le=1000000
    )
    dedicated_wait: Duration = _default(
        "0s", "An error at once: a client that waits for a dedicated connection seems to hang.", ge=0, le=_DAY
    )
    dedicated_share: Percent = _default(
        "80%", "Most of the load may come from one address and user; a fifth stays free for others."
    )
    watch_timeout: Duration = _default(
        "5m", "Optimistic locking takes milliseconds: an older WATCH was forgotten.", ge=0, le=_DAY
    )
    long_reply_connections: Count = _default(
        8, "Few clients read replies of many megabytes at once; further replies are kept in memory.", ge=0, le=1024
    )
    username: str | None = _default(None, "None: the servers' default user.")
    password: SecretStr | None = _default(None, "None: Redis requires no password by default.")
    password_env: str | None = _default(None, "None: see password.")
    password_file: str | None = _default(None, "None: see password.")
    tls: bool = _default(False, "Redis does not speak TLS by default.")
    tls_ca_file: str | None = _default(None, "None: the authorities that the system trusts.")
    tls_cert_file: str | None = _default(None, "None: servers may accept clients without one (tls-auth-clients no).")
    tls_key_file: str | None = _default(None, "None: see tls_cert_file.")
    tls_server_name: str | None = _default(
        None, "None: the host of the server's address.", min_length=1, pattern=r"^[^\s\x00]+$"
    )
    tls_verify: bool = _default(True, "TLS to a server that is not verified does not protect.")
    proxy_protocol: Literal["off", "v1", "v2"] = _default(
        "off", "Redis takes no header; a balancer or a Slotgate in front of it may expect one."
    )

    @model_validator(mode="after")
    def _resolve(self, info: ValidationInfo) -> Self:
        secret = read_secret(self, info.context)
        # From here on `password` is the password to send, whatever key gave or named the password.
        object.__setattr__(self, "password", None if secret is None else SecretStr(secret))
        for key in TLS_FILES:
            if (name := getattr(self, key)) is not None:
                object.__setattr__(self, key, str(full_path(name, info.context)))
        return self


class LimitsSection(ConnectionLimits):
    """The table ``[limits]``: the limits of clients and of every buffer."""

    max_request_size: Size = _default("1gb", "Redis's client-query-buffer-limit.", gt=0)
    max_bulk: Size = _default("512mb", "Redis's proto-max-bulk-len.", gt=0)
    max_arguments: Count = _default(
        2**31 - 1,
        "Redis's own limit. Servers before 7.0 take 1048576 only.",
        ge=1,
        le=2**31 - 1,
    )
    max_inline: Size = _default("64kb", "Redis's limit of an inline command.", gt=0)
    max_in_flight: Count = _default(
        16384, "Deeper pipelines are not faster; beyond it the client's socket is not read.", ge=1
    )
    output_soft: Size = _default("8mb", "Enough to fill any network: a client with half of it unread is slow.", gt=0)
    output_hard: Size = _default("1gb", "Room for one largest reply and more; beyond it the client is closed.", gt=0)
    output_memory: Size = _default(
        "512mb",
        "A quarter of a container of 2 GB: pipelines that are written whole fit, and memory does not run out.",
        gt=0,
    )
    memory: Memory = _default("auto", "Three quarters of the container's or machine's memory: the rest is for others.")
    max_reply: Size = _default(
        "1gb",
        "Two values of the largest size. The same as output_hard, since a kept reply becomes output in the end.",
        gt=0,
    )
    max_scripts: Count = _default(
        1000, "Twice what Redis 7.4 keeps of EVAL: clients with more scripts call each of them only once.", ge=1
    )
    script_memory: Size = _default("16mb", "A thousand large scripts; a script larger than this is not kept.", gt=0)
    pubsub_output_soft: Size = _default("8mb", "Redis's client-output-buffer-limit of subscribers.", gt=0)
    pubsub_output_patience: Duration = _default("60s", "Redis's, beside pubsub_output_soft.", ge=0, le=_DAY)
    pubsub_output_hard: Size = _default("32mb", "Redis's, beside pubsub_output_soft.", gt=0)
    write_timeout: Duration = _default("60s", "Redis's own timeout of a replica (repl-timeout).", gt=0, le=_DAY)
    tcp_keepalive: Duration = _default("300s", "Redis's own default.", ge=0, le=_KEEPALIVE_MAX)

    @property
    def tcp_keepalive_seconds(self) -> int:
        """Return ``tcp_keepalive`` as the system takes it: in whole seconds, and 0 only if keepalive is off."""
        return ceil(self.tcp_keepalive)


class LogSection(Section):
    """The table ``[log]``: the log on stderr."""

    level: Literal["debug", "info", "warning", "error"] = _default(
        "info", "One line for each event that matters to an operator, and none for single commands."
    )
    format: Literal["text", "json"] = _default("text", "Text is for people, json for log collectors.")


class Config(Section):
    """The whole configuration, parsed and checked. Equal configurations compare equal."""

    listen: Annotated[tuple[ListenAddress, ...], BeforeValidator(_one_or_many)] = _default(
        ("127.0.0.1:6380",), "Loopback is the safe default; the port is free beside a Redis on 6379."
    )
    listeners: tuple[ListenerSection, ...] = _default((), "None: the addresses of listen, all with the same settings.")
    admin: Annotated[AdminSection, BeforeValidator(from_address)] = _default({}, "See its keys.")
    protected_mode: bool = _default(
        True, "As in Redis: without passwords, an open port must not let everybody in by mistake."
    )
    trusted_proxies: Annotated[tuple[TrustedProxy, ...], BeforeValidator(_one_or_many)] = _default(
        (), "Nobody: whoever is trusted may claim any address for its clients. Not even loopback is, unless named."
    )
    workers: Workers = _default(1, "One process serves as much load as one Redis server.")
    drain_timeout: Duration = _default(
        "20s", "Longer than the request timeout, under the 30 s that Kubernetes allows.", ge=0, le=_DAY
    )
    measure: bool = _default(True, "Counting and timing commands costs less than 3 % of the CPU.")
    read_from: ReadFrom = _default("primary", "Reads are never stale, as with plain Redis.")
    max_replica_lag: Duration = _default(
        "5s",
        "A healthy replica lags less, and a hanging one is soon not read from any more.",
        gt=0,
        le=_DAY,
    )
    read_your_writes: Duration = _default("0s", "Off: clients that read replicas accept their lag.", ge=0, le=_DAY)
    cross_slot: Literal["split", "reject"] = _default("split", "MGET, MSET, DEL and others work as on one server.")
    undeclared_keys: Literal["refuse", "allow"] = _default(
        "refuse", "A script that finds no data, because it runs on another shard, gives wrong results without an error."
    )
    keyless_shard: str | None = _default(
        None, 'Required with "allow" and several shards: only you know where the keys are.'
    )
    present_as: PresentAs = _default(
        "standalone", "Any client can use one server; cluster mode has to be turned on in a client."
    )
    advertise: Servers = _default((), "Each client sees the address that it connected to, which is right without NAT.")
    topology: TopologySection = _default({}, "See its keys.")
    cluster: ClusterSection = _default({}, "See its keys.")
    sentinel: SentinelSection = _default({}, "See its keys.")
    shards: Annotated[tuple[ShardSection, ...], AfterValidator(_name_shards)] = _default(
        (), "Required for a static topology."
    )
    colocate: tuple[ColocateSection, ...] = _default((), "None: each key has its own slot, as in Redis Cluster.")
    backend: BackendSection = _default({}, "See its keys.")
    limits: LimitsSection = _default({}, "See its keys.")
    users: Annotated[tuple[User, ...], AfterValidator(default_user)] = _default(
        (), "The default user needs no password, as in Redis."
    )
    aclfile: str | None = _default(None, "None: the users are those under [[users]].")
    audit: AuditSection = _default({}, "See its keys.")
    log: LogSection = _default({}, "See its keys.")

    @model_validator(mode="after")
    def _resolve(self, info: ValidationInfo) -> Self:
        if self.aclfile is not None:
            object.__setattr__(self, "aclfile", str(full_path(self.aclfile, info.context)))
        return self

    @property
    def listening(self) -> tuple[ListenerSection, ...]:
        """All listeners: those of ``listen``, unless only ``[[listeners]]`` are given, and then those of
        ``[[listeners]]``."""
        listen = () if self.listeners and "listen" not in self.model_fields_set else self.listen
        return (*(ListenerSection(address=address) for address in listen), *self.listeners)

    @property
    def read_policies(self) -> frozenset[ReadFrom]:
        """The values of ``read_from`` that clients may have."""
        of_users = (user.read_from for user in self.users if user.read_from is not None)
        return frozenset((*(each.read_from or self.read_from for each in self.listening), *of_users))

    @property
    def presents_cluster(self) -> bool:
        """Whether the clients of any listener see a Redis Cluster."""
        return any((each.present_as or self.present_as) == "cluster" for each in self.listening)

    @property
    def protected_listeners(self) -> tuple[ListenerSection, ...]:
        """The listeners that refuse clients of other machines, because protected mode is on and no password is
        needed."""
        nopass = self.aclfile is None and any(user.name == "default" and user.open for user in self.users)
        if not (self.protected_mode and nopass):
            return ()
        return tuple(
            each
            for each in self.listening
            if each.admits("default") and each.has_strangers and not each.wants_certificates
        )

    @property
    def memory_share(self) -> int:
        """The bytes of memory that one worker process may use."""
        memory = self.limits.memory
        return (machine.memory() * 3 // 4 if memory == "auto" else memory) // self.worker_count

    @property
    def worker_count(self) -> int:
        """The number of worker processes; ``"auto"`` means one for each core."""
        return machine.cores() if self.workers == "auto" else self.workers
