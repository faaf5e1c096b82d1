"""Who may ask at the admin port: hosts, tokens and passwords, as headers say them."""

import base64
import hashlib
import hmac
from http import HTTPStatus

import pytest

from proxy.worker import admin_access
from proxy.worker.admin_access import Access
from proxy.worker.admin_http import HttpRequest


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def request(host: str | None = "localhost", peer: str = "10.0.0.9:1", authorization: str = "") -> HttpRequest:
    headers = {"authorization": authorization} if authorization else {}
    return HttpRequest("GET", "/metrics", host, headers, peer)


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


BOTH = Access(tokens=(hashed("old"), hashed("new")), username="me", passwords=(hashed("a:b"), hashed("é")))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("[::1]:9121", True),
        ("[fe80::1]", True),
        ("localhost", True),
        ("a.localhost:1", True),
        ("proxy.example.:9121", True),
        ("PROXY.example", True),
        ("", False),
        ("evil.example", False),
        ("notlocalhost", False),
        ("127.0.0.1.evil.example", False),
        ("[evil.example]", False),
        ("2130706433", False),
    ],
)
def test_hosts(host: str, expected: bool) -> None:
    refusal = Access(hosts=frozenset({"proxy.example"})).misdirected(request(host))
    assert (refusal is None) is expected
    if refusal is not None:
        assert refusal.status is HTTPStatus.MISDIRECTED_REQUEST


def test_who_names_no_host_or_comes_over_a_unix_socket_is_no_browser() -> None:
    assert Access().misdirected(request(None)) is None
    assert Access().misdirected(request("evil.example", peer="")) is None


def test_any_host() -> None:
    assert Access(hosts=frozenset("*")).misdirected(request("evil.example")) is None


def test_a_strange_host_stays_one_line() -> None:
    refusal = Access().misdirected(request("evil\x1b[31m\x85" + 500 * "x"))
    assert refusal is not None
    assert refusal.body.count(b"\n") == 1
    assert b"\x1b" not in refusal.body
    assert len(refusal.body) < 200


@pytest.mark.parametrize("authorization", ["Bearer old", "bearer new", "Bearer  new ", basic("me:a:b"), basic("me:é")])
def test_good(authorization: str) -> None:
    assert BOTH.admits(request(authorization=authorization))


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "old", "Bearer", "Bearer ", "Bearer a:b", "Bearer olD", f"Bearer {hashed('old')}", "Digest old"),
        *(basic("me:old"), basic("you:a:b"), basic(":a:b"), basic("me")),
        *("Basic me:a:b", "Basic /w==", "Basic \xe9", "Bearer \udcff"),
    ],
)
def test_bad(authorization: str) -> None:
    assert not BOTH.admits(request(authorization=authorization))


def test_an_empty_password_or_token_is_not_the_lack_of_one() -> None:
    assert not Access(tokens=(hashed("x"),)).admits(request(authorization=basic(":")))
    assert not Access(username="me", passwords=(hashed("x"),)).admits(request(authorization="Bearer "))


def test_without_any_nobody_is_asked() -> None:
    assert Access().admits(request())
    assert not Access().secured


@pytest.mark.parametrize("authorization", ["Bearer old", "Bearer no", basic("me:a:b"), basic("no:a:b"), basic("me:no")])
def test_all_is_compared_whatever_is_right(authorization: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Recording:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(admin_access, "hmac", Recording)
    BOTH.admits(request(authorization=authorization))
    assert len(compared) == (2 if authorization.startswith("Bearer") else 3)
    assert {len(each) for pair in compared for each in pair} == {64}


def test_what_is_asked_for_is_said() -> None:
    def asked(access: Access) -> list[str]:
        return [value.partition(" ")[0] for _, value in access.unauthorized().headers]

    assert asked(BOTH) == ["Bearer", "Basic"]
    assert asked(Access(tokens=("x",))) == ["Bearer"]
    assert asked(Access(username="me", passwords=("x",))) == ["Basic"]


def test_repr_shows_no_hash() -> None:
    assert repr(BOTH) == "Access(hosts=[], secured)"
