"""``load``: precedence, every problem at once, secrets kept."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.config import Address, Config, load
from proxy.config.words import TABLES
from proxy.errors import ConfigError

ONE_SHARD = '[[shards]]\nprimary = "127.0.0.1:7001"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "slotgate.toml"
    path.write_text(text)
    return path


def loaded(folder: Path, text: str, environ: Mapping[str, str] | None = None, **flags: object) -> Config:
    return load(write(folder, text), flags, environ or {})


def problems(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, **flags: object
) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, environ, **flags)
    return list(caught.value.problems)


def test_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, ONE_SHARD)
    assert config.listen == (Address("127.0.0.1", 6380),)
    assert config.admin.address == Address("127.0.0.1", 9121)
    assert config.drain_timeout == 20.0
    assert config.read_from == "primary"
    assert (config.max_replica_lag, config.read_your_writes) == (5.0, 0.0)
    assert (config.topology.kind, config.topology.discover_replicas) == ("static", False)
    assert (config.topology.refresh, config.topology.remap) == (10.0, {})
    assert (config.backend.request_timeout, config.backend.retry_deadline) == (15.0, 10.0)
    assert config.cross_slot == "split"
    assert config.backend.backoff_min == 0.05
    assert config.backend.password is None
    assert config.limits.max_bulk == 512 * 1024**2
    assert config.limits.output_hard == 1024**3
    assert [(user.name, user.nopass, user.passwords) for user in config.users] == [("default", True, frozenset())]
    assert [(shard.name, shard.primary, shard.replicas, shard.slots) for shard in config.shards] == [
        ("shard-1", Address("127.0.0.1", 7001), (), None)
    ]


def test_every_default_has_a_reason_in_one_line() -> None:
    for model in TABLES.values():
        for name, field in model.model_fields.items():
            assert len((field.description or "").splitlines()) == 1, name


def test_a_config_is_frozen(tmp_path: Path) -> None:
    config = loaded(tmp_path, ONE_SHARD)
    with pytest.raises(ValidationError):
        config.read_from = "any"
    assert config == loaded(tmp_path, ONE_SHARD)


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    text = 'read_from = "replica"\nadmin = "127.0.0.1:1"\ndrain_timeout = "1s"\n' + ONE_SHARD
    environ = {"SLOTGATE_READ_FROM": "any", "SLOTGATE_ADMIN": "127.0.0.1:2"}
    config = loaded(tmp_path, text, environ, read_from="prefer_replica")
    assert config.read_from == "prefer_replica"
    assert str(config.admin.address) == "127.0.0.1:2"
    assert config.drain_timeout == 1.0
    assert config.cross_slot == "split"


def test_flags_replace_the_shards_of_the_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, ONE_SHARD + 'slots = "0-16383"\n', shards=[{"primary": "a:1"}, {"primary": "a:2"}])
    assert [str(shard.primary) for shard in config.shards] == ["a:1", "a:2"]
    assert all(shard.slots is None for shard in config.shards)


def test_every_kind_of_variable() -> None:
    config = load(
        None,
        {},
        {
            "SLOTGATE_LISTEN": "[::1]:6390",
            "SLOTGATE_ADMIN": "",
            "SLOTGATE_SHARDS": '[{"primary": "a:1", "replicas": ["b:1"]}]',
            "SLOTGATE_BACKEND__REQUEST_TIMEOUT": "7s",
            "SLOTGATE_LIMITS": '{"max_clients": 5}',
            "SLOTGATE_LIMITS__MAX_IN_FLIGHT": "9",
            "SLOTGATE_USERS": '[{"name": "default", "nopass": true}]',
            "slotgate_log__level": "debug",
            "HOME": "/nowhere",
        },
    )
    assert config.listen == (Address("::1", 6390),)
    assert config.admin.address is None
    assert str(config.shards[0].replicas[0]) == "b:1"
    assert config.backend.request_timeout == 7.0
    assert (config.limits.max_clients, config.limits.max_in_flight) == (5, 9)
    assert config.log.level == "debug"


def test_several_listeners_from_a_variable_are_json() -> None:
    config = load(None, {"shards": [{"primary": "a:1"}]}, {"SLOTGATE_LISTEN": '["127.0.0.1:1", "unix:/run/s.sock"]'})
    assert [str(address) for address in config.listen] == ["127.0.0.1:1", "unix:/run/s.sock"]


@pytest.mark.parametrize(
    ("text", "shards"),
    [
        ("a:1", [("a:1", ())]),
        ("a:1/b:1/c:1,a:2", [("a:1", ("b:1", "c:1")), ("a:2", ())]),
        ("[::1]:7001/[::1]:7002,[::2]:7001", [("[::1]:7001", ("[::1]:7002",)), ("[::2]:7001", ())]),
        ("unix:/run/a.sock", [("unix:/run/a.sock", ())]),
        (' [ {"primary": "a:1", "replicas": ["b:1"]} ]', [("a:1", ("b:1",))]),
    ],
)
def test_shards_of_a_variable(text: str, shards: list[tuple[str, tuple[str, ...]]]) -> None:
    config = load(None, {}, {"SLOTGATE_SHARDS": text})
    assert [(str(each.primary), tuple(map(str, each.replicas))) for each in config.shards] == shards


def test_shards_of_a_variable_that_are_wrong(tmp_path: Path) -> None:
    words = '"b" is not an address: write "host:port", "[::1]:port" or "unix:/path" (from SLOTGATE_SHARDS)'
    assert problems(tmp_path, "", {"SLOTGATE_SHARDS": "a:1,b"}) == [("shards[1].primary", words)]
    [(path, words)] = problems(tmp_path, "", {"SLOTGATE_SHARDS": '["a:1"]'})
    assert path == "shards[0]"
    assert words.endswith("(from SLOTGATE_SHARDS)")


def test_the_variable_of_the_file_is_known() -> None:
    load(None, {"shards": [{"primary": "a:1"}]}, {"SLOTGATE_CONFIG": "x.toml"})
    with pytest.raises(ConfigError) as caught:
        load(None, {"shards": [{"primary": "a:1"}]}, {"SLOTGATE_CONFG": "x.toml"})
    assert 'did you mean "SLOTGATE_CONFIG"?' in str(caught.value)


def test_unknown_variables(tmp_path: Path) -> None:
    environ = {
        "SLOTGATE_LISTN": "x",
        "SLOTGATE_QQQQ": "x",
        "SLOTGATE_SHARDS__0__PRIMARY": "a:1",
        # What Kubernetes sets for a service called "slotgate".
        "SLOTGATE_SERVICE_HOST": "10.0.0.1",
        "SLOTGATE_SERVICE_PORT_REDIS": "6380",
        "SLOTGATE_PORT": "tcp://10.0.0.1:6380",
        "SLOTGATE_PORT_6380_TCP_ADDR": "10.0.0.1",
    }
    assert problems(tmp_path, ONE_SHARD, environ) == [
        ("SLOTGATE_LISTN", 'is not a variable of Slotgate; did you mean "SLOTGATE_LISTEN"?'),
        ("SLOTGATE_QQQQ", "is not a variable of Slotgate: unset it"),
        (
            "SLOTGATE_SHARDS__0__PRIMARY",
            "sets nothing: the whole list is one variable, as JSON: SLOTGATE_SHARDS='[{...}]'",
        ),
    ]


def test_a_variable_that_is_wrong_is_named(tmp_path: Path) -> None:
    environ = {"SLOTGATE_LOG__FORMAT": "jsn", "SLOTGATE_SHARDS": "[{", "SLOTGATE_USERS": "me"}
    assert problems(tmp_path, "", environ) == [
        ("SLOTGATE_SHARDS", "is not JSON: Expecting property name enclosed in double quotes: line 1 column 3 (char 2)"),
        ("SLOTGATE_USERS", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("log.format", '"jsn" is not one of text, json; did you mean "json"? (from SLOTGATE_LOG__FORMAT)'),
    ]


def test_a_flag_that_is_wrong_is_named(tmp_path: Path) -> None:
    assert problems(tmp_path, ONE_SHARD, {"SLOTGATE_ADMIN": "x"}, admin="127.0.0.1") == [
        (
            "admin",
            '"127.0.0.1" is not an address: write "host:port", "[::1]:port" or "unix:/path" (from the command line)',
        )
    ]


def test_toml_that_is_none_names_the_line(tmp_path: Path) -> None:
    [(path, words)] = problems(tmp_path, "listen = [\n\n")
    assert path == str(tmp_path / "slotgate.toml")
    assert words.startswith("is not TOML: ")
    [(_, words)] = problems(tmp_path, 'admin = "x"\nread_from any\n')
    assert words == (
        "is not TOML: Expected '=' after a key in a key/value pair (at line 2, column 11): read_from ...; "
        'write KEY = VALUE, as in read_from = "any"'
    )


def test_toml_that_is_none_shows_no_secret(tmp_path: Path) -> None:
    for text in ("password = hunter2\n", "hunter2 = \n", '"hunter2\n', 'rules = """\nhunter2 \\q"""\n', "[hunter2\n"):
        [(_, words)] = problems(tmp_path, text)
        assert "hunter2" not in words
    (tmp_path / "slotgate.toml").write_bytes(b'\n[backend]\npassword = "hunter2\xff"\n')
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "slotgate.toml", {}, {})
    assert str(caught.value).endswith("is not TOML: line 3 is not UTF-8 text: save the file as UTF-8")


def test_a_problem_has_its_line(tmp_path: Path) -> None:
    text = 'read_from = "x"\n' + ONE_SHARD + 'slots = "0-99"\n[backend]\ntls_verify = false\n'
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, {"SLOTGATE_LOG__LEVEL": "x"})
    assert [(path, caught.value.places[path]) for path, _ in caught.value.problems] == [
        ("read_from", "slotgate.toml:1"),
        ("log.level", ""),
        ("shards", "slotgate.toml:2"),
        ("backend.tls_verify", "slotgate.toml:6"),
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml", {}, {})
    assert caught.value.problems == ((str(tmp_path / "none.toml"), "can not be read: No such file or directory"),)


def test_unknown_keys(tmp_path: Path) -> None:
    text = """
        read_form = "any"
        max_clients = 5
        zzz = 1
        [[shards]]
        primary = "a:1"
        replica = ["a:2"]
        cross_slot = "split"
        [backend]
        zzz = 1
        [limit]
    """
    keys = (
        "listen, listeners, admin, protected_mode, trusted_proxies, workers, watch_config, drain_timeout, "
        "shutdown_delay, worker_patience, ready_when, measure, read_from, max_replica_lag, read_your_writes, "
        "cross_slot, undeclared_keys, keyless_shard, present_as, advertise, topology, cluster, sentinel, shards, "
        "colocate, backend, limits, users, aclfile, audit, log"
    )
    assert sorted(problems(tmp_path, text)) == [
        (
            "backend.zzz",
            "is not a key: here are connections_per_node, connect_timeout, request_timeout, retry_deadline, "
            "backoff_min, backoff_max, dedicated_connections, dedicated_wait, dedicated_share, watch_timeout, "
            "long_reply_connections, username, password, password_env, password_file, tls, tls_ca_file, "
            "tls_cert_file, tls_key_file, tls_server_name, tls_verify, proxy_protocol",
        ),
        ("limit", 'is not a key; did you mean "limits"?'),
        ("max_clients", "is not a key here: it belongs under [limits]"),
        ("read_form", 'is not a key; did you mean "read_from"?'),
        ("shards[0].cross_slot", "is not a key here: it belongs at the top of the file, before the first [table]"),
        ("shards[0].replica", 'is not a key; did you mean "replicas"?'),
        ("zzz", f"is not a key: at the top are {keys}"),
    ]


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (
            'read_from = "replicas"',
            "read_from",
            '"replicas" is not one of primary, prefer_replica, replica, any, nearest; did you mean "replica"?',
        ),
        ("backend = 5", "backend", "is not a table: write it as [backend], with its keys below"),
        ("listen = 5", "listen", 'is not a list: write it in brackets, as in ["127.0.0.1:7002"]'),
        ("listen = []", "listen", 'names no address: write at least one, as in ["127.0.0.1:6380"]'),
        ('listen = ["a"]', "listen[0]", '"a" is not an address: write "host:port", "[::1]:port" or "unix:/path"'),
        ("[backend]\nconnect_timeout = 1", "backend.connect_timeout", '1 has no unit: write "1s" or "1ms"'),
        ('[backend]\nconnect_timeout = "0s"', "backend.connect_timeout", "must be more than 0"),
        ('[backend]\nconnect_timeout = "25h"', "backend.connect_timeout", "is too long: at most 24h"),
        ("[backend]\nconnections_per_node = 0", "backend.connections_per_node", "is too small: at least 1"),
        ("[backend]\nconnections_per_node = 2000", "backend.connections_per_node", "is too large: at most 1024"),
        ("[backend]\nusername = 5", "backend.username", "is not text: write it in quotes"),
        (
            '[[listeners]]\naddress = "127.0.0.1:7009"\nproxy_protocol = true',
            "listeners[0].proxy_protocol",
            "lets nobody in: name the balancers' networks in trusted_proxies",
        ),
        (
            'trusted_proxies = "10.0.0.1"\n[[listeners]]\naddress = "unix:/tmp/s"\nproxy_protocol = true',
            "listeners[0].proxy_protocol",
            'lets nobody in: name "unix" in trusted_proxies',
        ),
        (
            'trusted_proxies = ["10.0.0.0/8"]\n[[listeners]]\naddress = "127.0.0.1:7009"',
            "trusted_proxies",
            "has no effect: no listener has proxy_protocol = true, so set that, or leave it out",
        ),
        (
            'trusted_proxies = ["10.0.0.1/8"]',
            "trusted_proxies[0]",
            '"10.0.0.1/8" has bits behind its prefix: write "10.0.0.0/8"',
        ),
        (
            'trusted_proxies = ["0.0.0.0/0"]',
            "trusted_proxies[0]",
            '"0.0.0.0/0" is everybody, who could then claim any address: name the balancers\' networks',
        ),
        (
            'trusted_proxies = "haproxy"',
            "trusted_proxies[0]",
            '"haproxy" is no network: write "10.0.0.0/24", an address, or "unix" for unix sockets',
        ),
        ("trusted_proxies = 5", "trusted_proxies", 'is not a list: write it in brackets, as in ["127.0.0.1:7002"]'),
        ('[backend]\nproxy_protocol = "v3"', "backend.proxy_protocol", '"v3" is not one of off, v1, v2'),
        (
            '[backend]\nbackoff_min = "3s"',
            "backend.backoff_min",
            "is longer than backoff_max: make it shorter, or backoff_max longer",
        ),
        (
            '[backend]\nusername = "u"',
            "backend.username",
            "needs a password: set password, password_env or password_file beside it",
        ),
        (
            '[limits]\noutput_soft = "2gb"',
            "limits.output_soft",
            "is larger than output_hard: make it smaller, or output_hard larger",
        ),
        (
            '[limits]\nmax_bulk = "2gb"',
            "limits.max_bulk",
            "is larger than max_request_size, so it is never reached: make it smaller",
        ),
        ("workers = 0", "workers", "is too small: at least 1"),
        ("workers = 2000", "workers", "is too large: at most 1024"),
        ("workers = true", "workers", 'true is not a number of workers: write one, as in 4, or "auto"'),
        ('workers = "many"', "workers", '"many" is not a number of workers: write one, as in 4, or "auto"'),
        ('max_replica_lag = "0s"', "max_replica_lag", "must be more than 0"),
        (
            '[topology]\nkind = "clusters"',
            "topology.kind",
            '"clusters" is not one of static, cluster, sentinel; did you mean "cluster"?',
        ),
        ('[topology]\nrefresh = "0s"', "topology.refresh", "must be more than 0"),
        (
            '[topology]\nremap = "a=b"',
            "topology.remap",
            'is not a table: write remap = { "10.0.0.5:6379" = "203.0.113.5:7000" }',
        ),
        (
            '[topology]\nremap = { "a:1" = "b" }',
            "topology.remap",
            '"a:1" and "b": write both with a port, or both without',
        ),
        (
            '[topology]\ndiscover_replicas = "perhaps"',
            "topology.discover_replicas",
            "is not true or false: write one of them, without quotes",
        ),
        (
            '[cluster]\nseeds = "a:1"',
            "cluster.seeds",
            'are named, but topology.kind is "static": leave them out, or make it "cluster"',
        ),
        (
            '[sentinel]\nmasters = ["x"]',
            "sentinel.masters",
            'are named, but topology.kind is "static": leave them out, or make it "sentinel"',
        ),
        (
            '[sentinel]\nusername = "u"',
            "sentinel.username",
            "needs a password: set password, password_env or password_file beside it",
        ),
        (
            '[[users]]\nname = "app"',
            "users[0]",
            "has no password: set one of password, password_env, password_file, password_sha256, or nopass = true",
        ),
        (
            '[[users]]\nname = "app"\nnopass = true\nbackend_user = "at"',
            "users[0].backend_user",
            "has no password: set one of backend_password, backend_password_env, backend_password_file",
        ),
        (
            '[[users]]\nname = "app"\nnopass = true\nbackend_password = "x"',
            "users[0].backend_password",
            "is set without backend_user: name the user of the servers",
        ),
        (
            '[[users]]\nname = "a"\nnopass = true\nbackend_user = "at"\nbackend_password = "x"\n'
            '[[users]]\nname = "b"\nnopass = true\nbackend_user = "at"\nbackend_password = "y"',
            "users[1].backend_user",
            '"at" has another password in users[0]: give it one',
        ),
        (
            '[[users]]\nname = "app"\nnopass = true\npassword = "x"',
            "users[0].nopass",
            "is set beside a password: keep one of them",
        ),
        *(
            (
                f'[[users]]\nname = "app"\n{password}\nrules = "~* {nopass} +@all"',
                "users[0].rules",
                "say nopass beside a password, which nobody would need: keep one of them",
            )
            for password in ('password = "x"', f'password_sha256 = "{"0" * 64}"')
            for nopass in ("nopass", "NOPASS")
        ),
        (
            '[[users]]\nname = "app"\nnopass = "yes"',
            "users[0].nopass",
            "is not true or false: write one of them, without quotes",
        ),
        (
            "[[users]]\nnopass = true",
            "users[0].name",
            'is missing: give the name that AUTH gives, as in name = "default"',
        ),
        (
            '[[users]]\nname = "a b"\nnopass = true',
            "users[0].name",
            "is not a good name: it has no spaces and is not empty",
        ),
        (
            '[[users]]\nname = "a"\nnopass = true\n[[users]]\nname = "a"\nnopass = true',
            "users[1].name",
            '"a" is the name of users[0] too: name each user once',
        ),
    ],
)
def test_one_mistake_is_one_problem(tmp_path: Path, text: str, path: str, words: str) -> None:
    # Top-level keys come before the first table, so the shard goes last.
    assert problems(tmp_path, f"{text}\n{ONE_SHARD}") == [(path, words)]


COLOCATE = "[[colocate]]\n"


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("", "colocate[0]", "matches no keys: set prefixes = [...] and a name, or prefix = ... and upto = ..."),
        (
            'prefixes = ["a"]',
            "colocate[0].name",
            "is missing: it chooses the slot of the keys, so it should never change later",
        ),
        (
            'name = "a"\nprefixes = ["a"]\nupto = 2',
            "colocate[0].upto",
            "goes with prefix only: prefixes keep all their keys together",
        ),
        (
            'name = "a"\nprefixes = ["a", ""]',
            "colocate[0].prefixes",
            '"" matches every key: to keep all keys together, use one shard',
        ),
        (
            'name = "a"\nprefixes = "{a}"',
            "colocate[0].prefixes",
            '"{a}" has a brace: a hash tag takes precedence over rules, so leave it out',
        ),
        (
            'prefix = "{"',
            "colocate[0].prefix",
            '"{" has a brace: a hash tag takes precedence over rules, so leave it out',
        ),
        ("prefix = 5\nupto = 2", "colocate[0].prefix", "is not text: write it in quotes"),
        (
            'prefix = "{"\nupto = 2\nseparator = "."',
            "colocate[0].prefix",
            '"{" has a brace: a hash tag takes precedence over rules, so leave it out',
        ),
        (
            'prefix = "}:"',
            "colocate[0].prefix",
            '"}:" has a brace: a hash tag takes precedence over rules, so leave it out',
        ),
        (
            'prefix = "a:{b:"\nupto = 1',
            "colocate[0].prefix",
            '"a:{b:" has a brace: a hash tag takes precedence over rules, so leave it out',
        ),
        (
            'name = "a"\nprefixes = ["a", "b", "bc"]',
            "colocate[0].prefixes[2]",
            '"bc" begins with "b" of the same rule, which covers it: leave it out',
        ),
        (
            'name = "a"\nprefixes = ["a", "a"]',
            "colocate[0].prefixes[1]",
            '"a" is colocate[0].prefixes[0] too: name each prefix once',
        ),
        ('prefix = "b:"', "colocate[0].upto", 'is missing: write how many fields are hashed, 2 for "b:<name>"'),
        (
            'prefix = "b:"\nupto = 1',
            "colocate[0].upto",
            "ends within the prefix, so that all keys share a slot: make it larger, or use prefixes",
        ),
        ('prefix = "b:"\nupto = 0', "colocate[0].upto", "is too small: at least 1"),
        (
            'prefix = "b:"\nupto = 2\nseparator = "::"',
            "colocate[0].separator",
            'is not one ASCII character, as in separator = ":"; braces are for hash tags',
        ),
        (
            'prefix = "b:"\nupto = 2\nname = "a"\nprefixes = ["a"]',
            "colocate[0].prefixes",
            "are set beside prefix: make two rules of them",
        ),
        (
            'prefix = "b:"\nupto = 2\n[[colocate]]\nname = "a"\nprefixes = ["b:"]',
            "colocate[1].prefixes[0]",
            '"b:" is colocate[0].prefix too: name each prefix once',
        ),
        (
            'name = "a"\nprefixes = ["a"]\n[[colocate]]\nname = "a"\nprefixes = ["b"]',
            "colocate[1].name",
            '"a" is the name of colocate[0] too: put the prefixes into one rule',
        ),
    ],
)
def test_a_rule_that_can_not_be(tmp_path: Path, text: str, path: str, words: str) -> None:
    assert problems(tmp_path, f"{ONE_SHARD}{COLOCATE}{text}\n") == [(path, words)]


def test_rules_in_front_of_a_cluster(tmp_path: Path) -> None:
    text = '[topology]\nkind = "cluster"\n[cluster]\nseeds = "a:1"\n[[colocate]]\nprefix = "bull:"\nupto = 2\n'
    [(path, words)] = problems(tmp_path, text)
    assert path == "colocate"
    assert words.startswith(
        "has no effect in front of a Redis Cluster: its servers compute the slots of keys themselves"
    )
    assert loaded(tmp_path, text.replace("cluster", "sentinel").replace("seeds", 'masters = "m"\nsentinels')).colocate


def test_every_problem_is_said_at_once(tmp_path: Path) -> None:
    text = """
        read_from = "farthest"
        workers = true
        [[shards]]
        primary = "127.0.0.1:7001"
        slots = "0-5460"
        replica = []
        [[shards]]
        primary = "127.0.0.1:7002"
        slots = "5000-16380"
        [backend]
        request_timeout = 5
        password_env = "NOT_THERE"
        backoff_min = "5s"
        [limits]
        output_soft = "2gb"
        max_inline = "x"
    """
    found = [path for path, _ in problems(tmp_path, text, {"SLOTGATE_X": ""})]
    assert found == [
        "SLOTGATE_X",
        "workers",
        "read_from",
        "shards[0].replica",
        "backend.request_timeout",
        "limits.max_inline",
        "backend.password_env",
        "shards[1].slots",
        "shards",
        "backend.backoff_min",
        "limits.output_soft",
    ]


class TestShards:
    def test_none(self, tmp_path: Path) -> None:
        words = "there are none: name at least one primary under [[shards]], or with --static"
        assert problems(tmp_path, "") == [("shards", words)]

    def test_no_primary(self, tmp_path: Path) -> None:
        assert problems(tmp_path, '[[shards]]\nname = "a"\n') == [
            (
                "shards[0].primary",
                'is missing: name the server that takes the writes, as in primary = "127.0.0.1:7001"',
            )
        ]

    def test_one_table_instead_of_a_list(self, tmp_path: Path) -> None:
        assert problems(tmp_path, '[shards]\nprimary = "a:1"\n') == [
            ("shards", "is not a list of tables: write [[shards]] for each; in an environment variable, JSON")
        ]

    def test_overlap_and_gap_name_the_exact_ranges(self, tmp_path: Path) -> None:
        text = """
            [[shards]]
            name = "a"
            primary = "127.0.0.1:7001"
            slots = "0-5460,7000"
            [[shards]]
            name = "b"
            primary = "127.0.0.1:7002"
            slots = "5400-7000,7002-16382"
        """
        assert problems(tmp_path, text) == [
            ("shards[1].slots", 'overlaps shards[0] ("a") in 5400-5460,7000: each slot belongs to one shard'),
            ("shards", "no shard has the slots 7001,16383: add them to one"),
        ]

    def test_slots_on_all_or_none(self, tmp_path: Path) -> None:
        text = '[[shards]]\nprimary = "a:1"\nslots = "0-16383"\n[[shards]]\nname = "b"\nprimary = "a:2"\n'
        assert problems(tmp_path, text) == [
            (
                "shards[1].slots",
                'is missing on "b": name the slots of every shard, or of none to divide them evenly',
            )
        ]

    def test_reversed_and_out_of_range(self, tmp_path: Path) -> None:
        text = '[[shards]]\nprimary = "a:1"\nslots = "9-0"\n[[shards]]\nprimary = "a:2"\nslots = "10-16384"\n'
        assert problems(tmp_path, text) == [
            ("shards[0].slots", "9-0 is reversed: write 0-9"),
            ("shards[1].slots", "10-16384 is out of range: slots are 0 to 16383"),
        ]

    def test_duplicate_names(self, tmp_path: Path) -> None:
        text = '[[shards]]\nname = "shard-2"\nprimary = "a:1"\n[[shards]]\nprimary = "a:2"\n'
        assert problems(tmp_path, text) == [
            ("shards[1].name", '"shard-2" is the name of shards[0] too: choose another')
        ]

    def test_duplicate_addresses(self, tmp_path: Path) -> None:
        text = """
            [[shards]]
            primary = "127.0.0.1:7001"
            replicas = ["127.0.0.1:7002"]
            [[shards]]
            primary = "localhost:7002"
            replicas = ["[::1]:7002", "127.0.0.1:7001"]
        """
        assert problems(tmp_path, text) == [
            ("shards[1].primary", "localhost:7002 is shards[0].replicas[0] too: name each server once"),
            ("shards[1].replicas[1]", "127.0.0.1:7001 is shards[0].primary too: name each server once"),
        ]

    def test_a_bad_name(self, tmp_path: Path) -> None:
        assert problems(tmp_path, '[[shards]]\nname = "a b"\nprimary = "a:1"\n') == [
            (
                "shards[0].name",
                "is not a good name: up to 64 letters, digits and _ . : - (it is shown in errors and metrics)",
            )
        ]


class TestCluster:
    def test_seeds(self, tmp_path: Path) -> None:
        text = """
            [topology]
            kind = "cluster"
            refresh = "30s"
            remap = { "10.0.0.5:6379" = "[::1]:7000", "::2" = "Host-B" }
            [cluster]
            seeds = ["redis-a:6379", "10.0.0.1:6379"]
        """
        config = loaded(tmp_path, text)
        assert config.cluster.seeds == (Address("redis-a", 6379), Address("10.0.0.1", 6379))
        assert config.topology.refresh == 30.0
        assert config.topology.remap == {"10.0.0.5:6379": "[::1]:7000", "::2": "host-b"}

    def test_one_seed_is_no_list(self, tmp_path: Path) -> None:
        config = loaded(tmp_path, 'topology = { kind = "cluster" }\ncluster = { seeds = "a:1" }\n')
        assert config.cluster.seeds == (Address("a", 1),)

    def test_from_the_environment(self) -> None:
        environ = {
            "SLOTGATE_TOPOLOGY__KIND": "cluster",
            "SLOTGATE_CLUSTER__SEEDS": '["a:1", "b:1"]',
            "SLOTGATE_TOPOLOGY__REMAP": '{"a": "b"}',
            "SLOTGATE_TOPOLOGY__DISCOVER_REPLICAS": "false",
        }
        config = load(None, {}, environ)
        assert len(config.cluster.seeds) == 2
        assert config.topology.remap == {"a": "b"}

    def test_what_is_missing_or_too_much(self, tmp_path: Path) -> None:
        text = '[topology]\nkind = "cluster"\ndiscover_replicas = true\n' + ONE_SHARD
        assert problems(tmp_path, text) == [
            ("shards", 'are named, but topology.kind is "cluster": leave them out, or make it "static"'),
            ("cluster.seeds", "are missing: name two or three nodes of the cluster, or use --cluster"),
            ("topology.discover_replicas", 'is for "static" only: a cluster topology always discovers them'),
        ]

    def test_bad_seeds(self, tmp_path: Path) -> None:
        text = """
            listen = "127.0.0.1:7000"
            [topology]
            kind = "cluster"
            [cluster]
            seeds = ["a:1", "A:1", "unix:/run/a.sock", "127.0.0.1:7000"]
        """
        assert problems(tmp_path, text) == [
            (
                "cluster.seeds[2]",
                'unix:/run/a.sock is a unix socket: write "host:port", which says where the other servers are too',
            ),
            ("cluster.seeds[3]", "127.0.0.1:7000 is the proxy itself (listen[0]): name the server's own address"),
            ("cluster.seeds[1]", "a:1 is cluster.seeds[0] too: name each server once"),
        ]


class TestSentinel:
    SECRET = "sentinel-very-secret"

    def test_all_keys(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(self.SECRET + "\n")
        text = """
            [topology]
            kind = "sentinel"
            [sentinel]
            sentinels = ["a:26379", "b:26379"]
            masters = ["orders", "sessions"]
            username = "proxy"
            password_file = "secret"
        """
        config = loaded(tmp_path, text)
        assert config.sentinel.sentinels == (Address("a", 26379), Address("b", 26379))
        assert config.sentinel.masters == ("orders", "sessions")
        assert config.sentinel.username == "proxy"
        assert config.sentinel.password is not None
        assert config.sentinel.password.get_secret_value() == self.SECRET
        assert self.SECRET not in repr(config)

    def test_nothing_is_named(self, tmp_path: Path) -> None:
        assert problems(tmp_path, '[topology]\nkind = "sentinel"\n') == [
            ("sentinel.sentinels", "are missing: name the sentinels, or use --sentinel"),
            ("sentinel.masters", "are missing: name the masters that are the shards, or use --masters"),
        ]

    def test_bad_masters(self, tmp_path: Path) -> None:
        text = """
            [topology]
            kind = "sentinel"
            [sentinel]
            sentinels = "a:26379"
            masters = ["x", "", "x", "a b"]
        """
        words = "is not a name of a master: sentinels take letters, digits and . - _"
        assert problems(tmp_path, text) == [
            ("sentinel.masters[2]", '"x" is sentinel.masters[0] too: name each master once'),
            ("sentinel.masters[1]", words),
            ("sentinel.masters[3]", words),
        ]


class TestListeners:
    TABLES = (
        '[[listeners]]\naddress = "127.0.0.1:6381"\nread_from = "any"\n'
        '[[listeners]]\naddress = "unix:/run/a.sock"\npresent_as = "cluster"\nusers = "default"\nmax_clients = 3\n'
    )

    def listening(self, tmp_path: Path, text: str, **flags: object) -> list[str]:
        return [str(each.address) for each in loaded(tmp_path, text + ONE_SHARD, None, **flags).listening]

    def test_tables_stand_beside_listen_or_alone(self, tmp_path: Path) -> None:
        assert self.listening(tmp_path, "") == ["127.0.0.1:6380"]
        assert self.listening(tmp_path, self.TABLES) == ["127.0.0.1:6381", "unix:/run/a.sock"]
        text = 'listen = "127.0.0.1:1"\n' + self.TABLES
        assert self.listening(tmp_path, text) == ["127.0.0.1:1", "127.0.0.1:6381", "unix:/run/a.sock"]
        assert self.listening(tmp_path, text, listen="127.0.0.1:2", listeners=[]) == ["127.0.0.1:2"]

    def test_what_follows_from_the_tables(self, tmp_path: Path) -> None:
        config = loaded(tmp_path, self.TABLES + ONE_SHARD)
        assert config.read_policies == {"any", "primary"}
        assert config.presents_cluster
        assert [each.admits("other") for each in config.listening] == [True, False]
        assert not loaded(tmp_path, ONE_SHARD).presents_cluster

    def test_what_is_wrong_with_the_tables(self, tmp_path: Path) -> None:
        text = (
            '[[listeners]]\nread_from = "replicas"\nuser = "a"\n'
            '[[listeners]]\naddress = "127.0.0.1:1"\nmax_clients = 0\n' + ONE_SHARD
        )
        assert dict(problems(tmp_path, text)) == {
            "listeners[0].address": (
                'is missing: name the address where clients connect, as in address = "127.0.0.1:6381"'
            ),
            "listeners[0].read_from": (
                '"replicas" is not one of primary, prefer_replica, replica, any, nearest; did you mean "replica"?'
            ),
            "listeners[0].user": 'is not a key; did you mean "users"?',
            "listeners[1].max_clients": "is too small: at least 1",
        }
        text = (
            '[[listeners]]\naddress = "127.0.0.1:1"\nusers = ["default", "nobody"]\nmax_clients = 20000\n'
            '[[listeners]]\naddress = "127.0.0.1:1"\nusers = []\n' + ONE_SHARD
        )
        assert problems(tmp_path, text) == [
            ("listeners[1].address", "127.0.0.1:1 is taken by listeners[0].address: choose another port"),
            ("listeners[0].users", 'names "nobody", which is no user: add it under [[users]]'),
            (
                "listeners[0].max_clients",
                "has no effect: all listeners together have limits.max_clients = 10000",
            ),
            ("listeners[1].users", "is empty, so that nobody could log in: name users, or leave it out"),
        ]

    def test_protected_mode_is_for_those_who_need_no_password(self, tmp_path: Path) -> None:
        text = '[[listeners]]\naddress = "0.0.0.0:1"\n[[listeners]]\naddress = "0.0.0.0:2"\nusers = "a"\n'
        users = '[[users]]\nname = "default"\nnopass = true\n[[users]]\nname = "a"\npassword = "b"\n'
        config = loaded(tmp_path, text + users + ONE_SHARD)
        assert [str(each.address) for each in config.protected_listeners] == ["0.0.0.0:1"]

    def test_two_the_same(self, tmp_path: Path) -> None:
        text = 'listen = ["127.0.0.1:1", "localhost:1"]\nadmin = "0.0.0.0:1"\n' + ONE_SHARD
        assert problems(tmp_path, text) == [
            ("listen[1]", "localhost:1 is taken by listen[0]: choose another port"),
            ("admin", "0.0.0.0:1 is taken by listen[0]: choose another port"),
            ("admin", "0.0.0.0:1 is taken by listen[1]: choose another port"),
        ]

    def test_a_server_that_is_the_proxy(self, tmp_path: Path) -> None:
        text = 'listen = ["0.0.0.0:7001", "unix:/run/a.sock"]\n' + ONE_SHARD + 'replicas = ["unix:/run/a.sock"]\n'
        assert problems(tmp_path, text) == [
            ("shards[0].primary", "127.0.0.1:7001 is the proxy itself (listen[0]): name the server's own address"),
            (
                "shards[0].replicas[0]",
                "unix:/run/a.sock is the proxy itself (listen[1]): name the server's own address",
            ),
        ]

    def test_free_ports_and_other_hosts_do_not_collide(self, tmp_path: Path) -> None:
        text = 'listen = ["127.0.0.1:0", "127.0.0.1:0", "0.0.0.0:6379"]\nadmin = "127.0.0.1:0"\n'
        config = loaded(tmp_path, text + '[[shards]]\nprimary = "redis-a:6379"\n')
        assert len(config.listen) == 3


class TestSecrets:
    SECRET = "hunter2-very-secret"
    HASH = hashlib.sha256(SECRET.encode()).hexdigest()

    def test_a_users_password_is_kept_as_its_hash(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(self.SECRET + "\n")
        text = f"""
            [[users]]
            name = "a"
            password = "{self.SECRET}"
            [[users]]
            name = "b"
            password_env = "SLOTGATE_B"
            [[users]]
            name = "c"
            password_file = "secret"
            [[users]]
            name = "d"
            password_sha256 = "{self.HASH.upper()}"
            [[users]]
            name = "e"
            password_sha256 = ["{self.HASH}", "{"0" * 64}"]
        """
        config = loaded(tmp_path, text + ONE_SHARD, {"SLOTGATE_B": self.SECRET})
        assert [user.passwords for user in config.users] == [
            frozenset({self.HASH}),
            frozenset({self.HASH}),
            frozenset({self.HASH}),
            frozenset({self.HASH}),
            frozenset({self.HASH, "0" * 64}),
        ]
        assert all(user.password is None for user in config.users)
        assert self.SECRET not in repr(config)
        assert self.HASH not in repr(config)
        assert self.SECRET not in config.model_dump_json(include={"users", "backend"})

    @pytest.mark.parametrize("key", ["password", "password_env", "password_file"])
    def test_the_backends_password(self, tmp_path: Path, key: str) -> None:
        (tmp_path / "secret").write_text(self.SECRET)
        value = {"password": self.SECRET, "password_env": "BACKEND", "password_file": "secret"}[key]
        config = loaded(tmp_path, f'[backend]\n{key} = "{value}"\n' + ONE_SHARD, {"BACKEND": self.SECRET})
        assert config.backend.password is not None
        assert config.backend.password.get_secret_value() == self.SECRET
        assert self.SECRET not in repr(config)

    def test_a_password_from_the_environment_replaces_the_files(self, tmp_path: Path) -> None:
        text = '[backend]\npassword_file = "not-there"\n' + ONE_SHARD
        config = loaded(tmp_path, text, {"SLOTGATE_BACKEND__PASSWORD": self.SECRET})
        assert config.backend.password is not None
        assert config.backend.password_file is None

    def test_problems(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("\n")
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        text = f"""
            [[users]]
            name = "a"
            password = "{self.SECRET}"
            password_env = "SET"
            [[users]]
            name = "b"
            password_env = "UNSET"
            [[users]]
            name = "c"
            password_env = "EMPTY"
            [[users]]
            name = "d"
            password_file = "not-there"
            [[users]]
            name = "e"
            password_file = "empty"
            [[users]]
            name = "f"
            password_file = "binary"
            [[users]]
            name = "g"
            password = ""
            [[users]]
            name = "h"
            password_sha256 = ["{self.SECRET}"]
            [[users]]
            name = "i"
            password_env = "LATIN"
        """
        environ = {"SET": self.SECRET, "EMPTY": "", "LATIN": "p\udce4ss"}
        found = problems(tmp_path, text + ONE_SHARD, environ)
        assert found == [
            ("users[0].password_env", "is one password key too many beside password: keep one of them"),
            ("users[1].password_env", "names the environment variable UNSET, which is not set: set it"),
            ("users[2].password_env", "names the environment variable EMPTY, which is empty"),
            (
                "users[3].password_file",
                f"names {tmp_path / 'not-there'}, which can not be read: No such file or directory",
            ),
            ("users[4].password_file", f"names {tmp_path / 'empty'}, which is empty"),
            ("users[5].password_file", f"names {tmp_path / 'binary'}, which is not UTF-8 text"),
            ("users[6].password", "is empty: leave it out, or set it"),
            (
                "users[7].password_sha256[0]",
                "is not a SHA-256: write 64 hex digits, as `printf %s PASSWORD | sha256sum` prints them",
            ),
            ("users[8].password_env", "names the environment variable LATIN, which is not UTF-8 text"),
        ]

    @pytest.mark.parametrize(
        "text",
        [
            'backend = "{}"',
            'users = "{}"',
            'users = ["{}"]',
            'listen = "user:{}@127.0.0.1:1"',
            '[backend]\npassword = ["{}"]',
            '[backend]\npassword_env = "A"\npassword = "{}"',
            '[[users]]\npassword = "{}"\nnopass = 5',
            '[[users]]\nname = "a"\npassword_sha256 = "{}"',
            '[backend]\npasword = "{}"',
        ],
    )
    def test_no_error_shows_one(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            loaded(tmp_path, text.format(self.SECRET) + "\n" + ONE_SHARD)
        assert self.SECRET not in str(caught.value)
        assert self.SECRET not in repr(caught.value.problems)


def test_every_problem_is_one_line(tmp_path: Path) -> None:
    text = """
        read_from = "a\\nb"
        listen = "a\\u2028b:1"
        "a\\nb" = 1
        [backend]
        password_env = "a\\nb"
    """
    found = problems(tmp_path, text + ONE_SHARD, {"SLOTGATE_\udcff\n": ""})
    assert len(found) == 5
    assert all(len(f"{path}: {words}".splitlines()) == 1 for path, words in found)
    assert "\n".join(f"{path}: {words}" for path, words in found).encode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            'advertise = "a:1"',
            ("advertise", 'has no effect: it is for present_as = "cluster", so set that beside it, or leave it out'),
        ),
        (
            'present_as = "cluster"\nadvertise = ["a:1", "unix:/x"]',
            ("advertise[1]", 'unix:/x is a unix socket: write "host:port", as cluster clients connect to it'),
        ),
        (
            'present_as = "cluster"\nadvertise = ["a:1", "b:1", "a:1"]',
            ("advertise[2]", "a:1 is advertise[0] too: name each address once"),
        ),
        (
            'present_as = "cluster"\nlisten = "unix:/x"',
            ("advertise", 'is missing: with unix sockets only, cluster clients need a "host:port" to connect to'),
        ),
    ],
)
def test_advertised_addresses(tmp_path: Path, text: str, found: tuple[str, str]) -> None:
    assert problems(tmp_path, f"{text}\n{ONE_SHARD}") == [found]


def test_present_as_cluster(tmp_path: Path) -> None:
    config = loaded(tmp_path, f'present_as = "cluster"\nadvertise = "redis.example.com:6380"\n{ONE_SHARD}')
    assert config.present_as == "cluster"
    assert config.advertise == (Address("redis.example.com", 6380),)
    assert not config.users[0].admin


TWO = '[[shards]]\nname = "a"\nprimary = "127.0.0.1:1"\n[[shards]]\nname = "b"\nprimary = "127.0.0.1:2"\n'


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (
            'undeclared_keys = "allow"\n' + TWO,
            "keyless_shard",
            "is missing: name the shard on which scripts without declared keys run (a, b)",
        ),
        (
            'keyless_shard = "a"\n' + TWO,
            "keyless_shard",
            'goes with undeclared_keys = "allow" only: without it, such scripts are refused',
        ),
        (
            'undeclared_keys = "allow"\nkeyless_shard = "c"\n' + TWO,
            "keyless_shard",
            '"c" is the name of no shard: there are a, b',
        ),
        (
            'keyless_shard = "a"\n[topology]\nkind = "cluster"\n[cluster]\nseeds = "a:1"\n',
            "keyless_shard",
            "has no effect in front of a Redis Cluster: its servers refuse keys of other servers to scripts "
            "themselves. Leave it out",
        ),
        (
            'undeclared_keys = "allow"\n[topology]\nkind = "sentinel"\n[sentinel]\nsentinels = "a:1"\n'
            'masters = ["x", "y"]\n',
            "keyless_shard",
            "is missing: name the shard on which scripts without declared keys run (x, y)",
        ),
        (
            TWO + "[[audit.rules]]\n",
            "audit.path",
            "is missing: name the file that what the rules record is written to",
        ),
        (
            TWO + '[audit]\npath = "audit"\n',
            "audit.rules",
            "are missing, so nothing would be recorded: one of {} records everything",
        ),
    ],
)
def test_scripts_without_keys_and_the_audit_log(tmp_path: Path, text: str, path: str, words: str) -> None:
    assert problems(tmp_path, text) == [(path, words)]


def test_where_the_audit_log_can_not_be(tmp_path: Path) -> None:
    rules = "\n[[audit.rules]]\n"
    ((path, words),) = problems(tmp_path, TWO + '[audit]\npath = "none/audit"' + rules)
    assert path == "audit.path"
    assert words.endswith("none, which does not exist: make it, for the user of the proxy")
    ((path, words),) = problems(tmp_path, TWO + '[audit]\npath = "."' + rules)
    assert words.endswith("is a folder: name a file in it")


@pytest.mark.parametrize(
    "text",
    [
        'undeclared_keys = "allow"\nkeyless_shard = "b"\n' + TWO,
        'undeclared_keys = "allow"\n[[shards]]\nprimary = "127.0.0.1:1"\n',
        'undeclared_keys = "allow"\n[topology]\nkind = "cluster"\n[cluster]\nseeds = "a:1"\n',
    ],
)
def test_where_scripts_without_keys_may_run(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).undeclared_keys == "allow"
