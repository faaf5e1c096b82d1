"""The table of requests that a server may answer with more frames than one, or with none."""

import pytest

from proxy.commands.derive import decide
from proxy.commands.facts import Fact, Handling
from proxy.commands.table import CommandTable
from proxy.planning import reply_counts
from proxy.planning.proof import RUNS_CODE
from proxy.session.script_cache import Scripts

TABLE = CommandTable.builtin()


def fact_of(*args: bytes) -> Fact:
    found = TABLE.resolve(args)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "body",
    [
        b'#!lua "zz\\r\\n+x"\nreturn 1',
        b"#!lua 'zz'\nreturn 1",
        b"#!lua zz\\\nreturn 1",
        b'#!"lua\\r\\n+x"\nreturn 1',
        b'#!lua flags="no-writes"\nreturn 1',
        b"#!lua zz\r+x\nreturn 1",
        b"#!lua zz\0\nreturn 1",
        b"#!lua \x80\nreturn 1",
        b'#!"',
        b"#!lua zz;\nreturn 1",
    ],
)
def test_a_first_line_that_could_be_echoed_in_two(body: bytes) -> None:
    assert reply_counts.odd_code(body)
    scripts = Scripts(10, 1000)
    scripts.keep(body)
    assert not len(scripts), "it would be sent ahead over shared connections"
    for args in ((b"EVAL", body, b"0"), (b"EVAL_RO", body, b"0"), (b"SCRIPT", b"LOAD", body)):
        assert reply_counts.of_its_own(fact_of(*args).name, args, raises=False)


@pytest.mark.parametrize(
    "body",
    [
        b"return 1",
        b'return "a\\r\\n"',
        b"#!lua\nreturn '\\r\\n'",
        b"#!lua flags=no-writes,allow-stale\nreturn 1",
        b"#!lua name=my-lib\r\nreturn 1",
        b"#!js api_version=1.0 name=lib\nx",
        b"#!lua",
        b"",
    ],
)
def test_plain_code(body: bytes) -> None:
    assert not reply_counts.odd_code(body)
    for args in ((b"EVAL", body, b"0"), (b"SCRIPT", b"LOAD", body)):
        assert reply_counts.of_its_own(fact_of(*args).name, args, raises=False) is None


@pytest.mark.parametrize("name", sorted(RUNS_CODE))
def test_scripts_are_shared_unless_a_server_passes_on_what_they_raise(name: str) -> None:
    args = (name.encode(), b"return 1", b"0")
    assert reply_counts.of_its_own(fact_of(*args).name, args, raises=False) is None
    assert reply_counts.of_its_own(fact_of(*args).name, args, raises=True)


def test_libraries_never_are() -> None:
    plain = b"#!lua name=x\nreturn 1"
    for args in ((b"FUNCTION", b"LOAD", plain), (b"FUNCTION", b"RESTORE", b"x"), (b"FUNCTION", b"LIST", b"x\r\n")):
        assert reply_counts.of_its_own(fact_of(*args).name, args, raises=False)
    listing = (b"FUNCTION", b"LIST", b"LIBRARYNAME", b"x")
    assert reply_counts.of_its_own(fact_of(*listing).name, listing, raises=False) is None


@pytest.mark.parametrize(
    ("arguments", "shared"),
    [
        ((b"SLEEP", b"0"), True),
        ((b"sleep", b"0"), True),
        ((b"OBJECT", b"k"), True),
        ((b"RELOAD",), True),
        ((b"PROTOCOL", b"attrib"), False),
        ((b"ERROR", b"x"), False),
        ((b"OBJECT", b"k\r\n"), False),
        ((b"SOMETHING-NEW",), False),
        ((b"HELP",), False),
        ((), False),
    ],
)
def test_debug_is_shared_where_it_answers_once(arguments: tuple[bytes, ...], shared: bool) -> None:
    args = (b"DEBUG", *arguments)
    assert (reply_counts.of_its_own("debug", args, raises=False) is None) is shared


@pytest.mark.parametrize(
    ("increments", "own"),
    [((b"1",), False), ((b"0", b"99999"), False), ((b"1", b"x"), True), ((b"-1", b"1"), True), ((b"", b"1"), True)]
    + [((number, b"1"), True) for number in (b"100001", b"1e3", b"1.5", b" 1", b"+1")],
)
def test_an_increment_that_a_module_refuses(increments: tuple[bytes, ...], own: bool) -> None:
    args = [b"TOPK.INCRBY", b"k", *(part for increment in increments for part in (b"item", increment))]
    assert bool(reply_counts.of_its_own("topk.incrby", args, False)) is own


def test_the_names_are_those_of_facts() -> None:
    facts = {fact.name: fact for top in CommandTable.with_modules() for fact in (top, *top.subcommands.values())}
    assert reply_counts.NAMES - facts.keys() == set()


@pytest.mark.parametrize("name", sorted(reply_counts.NEVER_SENT))
def test_what_must_never_reach_a_shared_connection(name: str) -> None:
    """The table of overrides refuses it, or the proxy answers it; users with ``admin = true`` do not send it either."""
    # What only old servers have is decided when they tell of it.
    fact = TABLE.resolve(tuple(name.encode().split(b"|"))) or decide(Fact(name, -1))
    assert fact.handling in (Handling.REFUSED, Handling.SESSION, Handling.MODE)
    assert fact.for_admins is None
    inside = [sub for sub in fact.subcommands.values() if not sub.name.endswith("|help")]
    answered = {"acl|cat", "acl|genpass", "module|list", "cluster|countkeysinslot", "cluster|getkeysinslot"}
    sent = {sub.name for sub in inside if sub.handling not in (Handling.REFUSED, Handling.SESSION, Handling.MODE)}
    assert sent <= answered
