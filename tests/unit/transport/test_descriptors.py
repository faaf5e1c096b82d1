"""How descriptors are divided among clients, connections to servers, and what the proxy needs itself."""

import logging
import resource

import pytest

from proxy.config import Config
from proxy.errors import SlotgateError
from proxy.sharding.topology import build_topology
from proxy.transport import descriptors
from proxy.transport.descriptors import Budget, Division, divide


def config(shards: int = 3, clients: int = 10_000, dedicated: int = 1000, replicas: int = 0) -> Config:
    return Config.model_validate(
        {
            "shards": [
                {
                    "primary": f"10.0.0.{number}:6379",
                    "replicas": [f"10.0.1.{number}:{port}" for port in range(1, replicas + 1)],
                }
                for number in range(shards)
            ],
            "limits": {"max_clients": clients},
            "backend": {"dedicated_connections": dedicated},
        }
    )


def divided(limit: int, of: Config, workers: int = 1) -> Division:
    return divide(limit, of, build_topology(of), workers)


@pytest.mark.parametrize("limit", [20_000, 65_536, 1 << 20, descriptors.PLENTY])
def test_what_is_asked_for_where_there_are_enough(limit: int) -> None:
    found = divided(limit, config())
    assert (found.clients, found.all_clients, found.dedicated) == (10_000, 10_000, descriptors.PLENTY)
    assert found.wanted <= found.limit


def test_clients_come_before_connections_of_their_own() -> None:
    found = divided(20_000, config(dedicated=5000))
    assert found.clients == 10_000
    assert found.dedicated == 20_000 - 32 - 1 - 3 * 8 - 10_000


@pytest.mark.parametrize("limit", [64, 100, 128, 256, 1024, 4096, 10_000])
@pytest.mark.parametrize(("shards", "replicas"), [(1, 0), (1, 2), (3, 0)])
def test_they_are_never_more_than_there_are(limit: int, shards: int, replicas: int) -> None:
    found = divided(limit, config(shards, replicas=replicas))
    shared = shards * (1 + replicas) * 8
    assert 32 + 1 + shared + found.clients + found.dedicated <= limit
    assert found.clients >= 3 * found.dedicated - 3
    assert found.dedicated > 0


def test_each_worker_has_its_own() -> None:
    found = divided(4096, config(), workers=4)
    assert found.clients * 4 >= found.all_clients == 10_000
    assert found.clients >= 2500
    found = divided(1024, config(), workers=4)
    assert found.all_clients == found.clients * 4 < 10_000


def test_far_too_few_is_an_error_in_words() -> None:
    few = config()
    with pytest.raises(SlotgateError, match=r"the limit of open files is 40: .*for clients\. Raise it \(ulimit -n"):
        descriptors.check(40, few, build_topology(few))
    descriptors.check(128, few, build_topology(few))


def test_one_line_with_the_numbers(caplog: pytest.LogCaptureFixture) -> None:
    asked = config()
    with caplog.at_level(logging.WARNING):
        descriptors.report(divided(1 << 20, asked), asked, 1)
        assert not caplog.records
        found = divided(128, asked)
        descriptors.report(found, asked, 1)
        descriptors.report(found, asked, 2)
    one, several = caplog.messages
    assert f"max_clients is {found.clients}, not 10000" in one
    assert f"{found.dedicated} connections to servers" in one
    assert f"limit=128 wanted={found.wanted};" in one
    assert "workers=2, each with that limit" in several


def test_the_limit_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(64, 128)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert descriptors.raise_limit() == 128
    assert limits == [(64, 128), (128, 128)]
    assert descriptors.raise_limit() == 128
    limits.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert descriptors.raise_limit() == descriptors.PLENTY

    def refuse(_: int, pair: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    limits.append((64, resource.RLIM_INFINITY))
    assert descriptors.raise_limit() == 64


def test_a_budget() -> None:
    budget = Budget(3)
    budget.taken = 2
    assert budget.has()
    assert not budget.has(2)
    assert repr(budget) == "Budget(2 of 3)"
