"""What a reload changes: every key has an effect, what the documentation says is so, and nothing else is taken over."""

import re
from pathlib import Path

import pytest

from proxy.config import Config
from proxy.config.reload import AT_ONCE, FOR_NEW_CONNECTIONS, changes, effect_of, in_use, keys

DOCS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
SHARDS = {"shards": [{"primary": "127.0.0.1:7001"}]}


def configured(**more: object) -> Config:
    return Config.model_validate({**SHARDS, **more})


def test_the_keys_are_keys() -> None:
    assert {key for key, _ in keys(configured())} >= AT_ONCE | FOR_NEW_CONNECTIONS
    assert not AT_ONCE & FOR_NEW_CONNECTIONS


@pytest.mark.parametrize(
    ("named", "said"), [(AT_ONCE, "at once"), (FOR_NEW_CONNECTIONS, "for new connections")], ids=["at once", "new"]
)
def test_the_documentation_names_them(named: frozenset[str], said: str) -> None:
    (row,) = re.findall(rf"^\| (.*) \| {said}.*\|$", DOCS, re.MULTILINE)
    assert set(re.findall(r"`([a-z_.]+)`", row)) == named


def test_what_has_changed() -> None:
    before = configured(log={"level": "info"}, backend={"password": "one"}, cross_slot="split")
    after = configured(log={"level": "debug", "format": "json"}, backend={"password": "two"}, cross_slot="reject")
    assert {change.key: change.effect for change in changes(before, after)} == {
        "log.level": "at once",
        "log.format": "after a restart",
        "backend.password": "for new connections",
        "cross_slot": "after a restart",
    }
    assert changes(before, before) == []


def test_only_what_needs_no_restart_is_taken_over() -> None:
    users = [{"name": "default", "nopass": True}, {"name": "app", "password": "x"}]
    before = configured()
    after = configured(
        users=users,
        workers=3,
        drain_timeout="1s",
        log={"level": "debug", "format": "json"},
        limits={"max_command_rate_per_user": 5, "max_clients": 7},
        backend={"username": "u", "password": "p", "connect_timeout": "9s"},
    )
    used = in_use(before, after)
    assert {change.key for change in changes(used, after)} == {
        "workers",
        "log.format",
        "limits.max_clients",
        "backend.connect_timeout",
    }
    assert all(effect_of(change.key) != "after a restart" for change in changes(before, used))
    assert used.users == after.users
