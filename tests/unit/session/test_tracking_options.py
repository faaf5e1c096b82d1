"""CLIENT TRACKING's options, as Redis 7.0.15 takes them."""

import pytest

from proxy import errors
from proxy.engine.jobs import at_once
from proxy.resp.encode import bulk
from proxy.session.tracking_options import Tracking, describe, parsing


def asked(line: str, now: Tracking | None = None) -> Tracking | str | None:
    args = [b"client", b"tracking", *(word.encode() for word in line.split())]
    return at_once(parsing(args, now, lambda number: None if number == 7 else f"ERR no {number}"))


@pytest.mark.parametrize(
    ("line", "tracking"),
    [
        ("on", Tracking()),
        ("ON NoLoop OPTIN", Tracking(optin=True, noloop=True)),
        ("on optout", Tracking(optout=True)),
        ("on redirect 7", Tracking(redirect=7)),
        ("on bcast", Tracking(bcast=True, prefixes=(b"",))),
        ("on bcast prefix b prefix a", Tracking(bcast=True, prefixes=(b"a", b"b"))),
        ("off", None),
        ("off noloop", None),
    ],
)
def test_what_is_asked_for(line: str, tracking: Tracking | None) -> None:
    assert asked(line) == tracking


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("yes", errors.SYNTAX),
        ("on nonsense", errors.SYNTAX),
        ("on redirect", errors.SYNTAX),
        ("on prefix", errors.SYNTAX),
        ("on redirect x", errors.NOT_AN_INTEGER),
        ("on redirect 8", "ERR no 8"),
        ("on redirect 7 redirect 7", "ERR A client can only redirect to a single other client"),
        ("on prefix a", "ERR PREFIX option requires BCAST mode to be enabled"),
        ("on bcast optin", "ERR OPTIN and OPTOUT are not compatible with BCAST"),
        ("on optin optout", "ERR You can't specify both OPTIN mode and OPTOUT mode"),
        (
            "on bcast prefix a prefix ab",
            "ERR Prefix 'a' overlaps with another provided prefix 'ab'. Prefixes for a single client must not overlap.",
        ),
    ],
)
def test_what_can_not_be(line: str, error: str) -> None:
    assert asked(line) == error


def test_what_is_added_to_what_there_is() -> None:
    broad = Tracking(bcast=True, prefixes=(b"a",))
    assert asked("on bcast prefix b", broad) == Tracking(bcast=True, prefixes=(b"a", b"b"))
    assert asked("on bcast", broad) == Tracking(bcast=True, prefixes=(b"", b"a"))
    assert asked("on bcast prefix ab", broad) == (
        "ERR Prefix 'ab' overlaps with an existing prefix 'a'. Prefixes for a single client must not overlap."
    )
    assert str(asked("on", broad)).startswith("ERR You can't switch BCAST mode on/off before disabling tracking")
    assert str(asked("on optin", Tracking(optout=True))).startswith("ERR You can't switch OPTIN/OPTOUT mode before")


def test_what_a_server_is_told() -> None:
    assert list(Tracking(optin=True, noloop=True).options()) == [[b"optin", b"noloop"]]
    assert list(Tracking(bcast=True, prefixes=(b"",)).options()) == [[b"bcast"]]
    both = Tracking(bcast=True, prefixes=(b"", b"a", b"b"))
    assert list(both.options()) == [[b"bcast", b"prefix", b"a", b"prefix", b"b"], [b"bcast"]]


def test_caching() -> None:
    optin, optout = Tracking(optin=True), Tracking(optout=True)
    assert optin.choose(b"YES") is None
    assert optin.caching == "yes"
    assert list(optin.flags()) == ["on", "optin", "caching-yes"]
    assert optout.choose(b"no") is None
    assert list(optout.flags()) == ["on", "optout", "caching-no"]
    assert str(optin.choose(b"no")).startswith("ERR CLIENT CACHING NO is only valid")
    assert str(optout.choose(b"yes")).startswith("ERR CLIENT CACHING YES is only valid")
    assert optin.choose(b"x") == errors.SYNTAX


def test_what_is_shown() -> None:
    shown = describe(Tracking(bcast=True, redirect=7, prefixes=(b"a",), broken=True), 3)
    flags = b"~3\r\n" + b"".join(map(bulk, ("on", "bcast", "broken_redirect")))
    assert (
        shown
        == b"%3\r\n" + bulk("flags") + flags + bulk("redirect") + b":7\r\n" + bulk("prefixes") + b"*1\r\n$1\r\na\r\n"
    )


def test_prefixes_of_any_number_are_kept_in_order_and_told_in_pairs() -> None:
    known = Tracking(bcast=True, prefixes=(b"a", b"p100", b"z"))
    given = [f"p{number:03}" for number in (*range(999, 300, -1), *range(99, 0, -1))]
    found = asked(" ".join(("ON BCAST", *[f"PREFIX {prefix}" for prefix in given])), known)
    assert isinstance(found, Tracking)
    every = sorted([b"a", b"p100", b"z", *[prefix.encode() for prefix in given]])
    assert list(found.prefixes) == every
    (words,) = found.options()
    assert words == [b"bcast", *[word for prefix in every for word in (b"prefix", prefix)]]
    given.insert(400, "p1001")
    wrong = asked(" ".join(("ON BCAST", *[f"PREFIX {prefix}" for prefix in given])), known)
    assert isinstance(wrong, str)
    assert wrong.startswith("ERR Prefix 'p1001' overlaps with an existing prefix 'p100'.")
