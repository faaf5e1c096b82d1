"""The words of errors. Those that Redis has are Redis 7.0.15's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors, server_errors
from proxy.errors import BackendError, ConfigError, SlotgateError
from proxy.resp import encode


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([b"foo"], "ERR unknown command 'foo', with args beginning with: "),
        ([b"foo", b"a", b"b"], "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
        ([b"f" * 200, b"a"], f"ERR unknown command '{'f' * 128}', with args beginning with: 'a' "),
        ([b"foo", b"a" * 200, b"b"], f"ERR unknown command 'foo', with args beginning with: '{'a' * 128}' "),
        (
            [b"foo", *[b"abcdefghij"] * 20],
            "ERR unknown command 'foo', with args beginning with: " + "'abcdefghij' " * 9 + "'abcdefghij' ",
        ),
        ([b"foo", b"\xe9"], "ERR unknown command 'foo', with args beginning with: '\xe9' "),
        ([b"foo\0bar", b"x"], "ERR unknown command 'foo', with args beginning with: 'x' "),
        ([b"foo", b"a\0b", b"c"], "ERR unknown command 'foo', with args beginning with: 'a' 'c' "),
        ([b""], "ERR unknown command '', with args beginning with: "),
    ],
)
def test_unknown_commands(args: list[bytes], words: str) -> None:
    assert errors.unknown_command(args) == words


def test_line_breaks_do_not_break_the_error() -> None:
    frame = encode.error(errors.unknown_command([b"foo", b"\r\nx", b"y"]))
    assert frame == b"-ERR unknown command 'foo', with args beginning with: '  x' 'y' \r\n"


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=20))
def test_what_is_quoted_is_bounded(args: list[bytes]) -> None:
    words = errors.unknown_command(args)
    assert len(words) < 500
    assert encode.error(words).endswith(b"\r\n")


def test_unknown_subcommands() -> None:
    assert errors.unknown_subcommand("client", b"FOO") == "ERR unknown subcommand 'FOO'. Try CLIENT HELP."
    frame = encode.error(errors.unknown_subcommand("config", b"FOO\r\nX"))
    assert frame == b"-ERR unknown subcommand 'FOO  X'. Try CONFIG HELP.\r\n"
    assert "x" * 129 not in errors.unknown_subcommand("config", b"x" * 500)


def test_arity() -> None:
    assert errors.wrong_arity("get") == "ERR wrong number of arguments for 'get' command"
    assert errors.wrong_arity("client|reply") == "ERR wrong number of arguments for 'client|reply' command"


def test_protocol_errors() -> None:
    assert errors.protocol("invalid bulk length") == "ERR Protocol error: invalid bulk length"


def test_bytes_are_quoted_one_character_each() -> None:
    raw = bytes(range(1, 256))
    assert errors.text(raw).encode("latin-1") == raw


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (errors.NOAUTH, "NOAUTH"),
        (errors.WRONGPASS, "WRONGPASS"),
        (errors.NOPROTO, "NOPROTO"),
        (errors.CROSSSLOT, "CROSSSLOT"),
        (errors.SYNTAX, "ERR"),
        (errors.refused("shutdown", ""), "ERR"),
        (errors.uncovered("foo"), "ERR"),
        (server_errors.shard_down("s1", "h:1", "refused"), "SHARDDOWN"),
        (server_errors.no_replica("s1"), "SHARDDOWN"),
        (server_errors.timed_out("s1", "h:1", 0.5), "TIMEOUT"),
        (server_errors.uncertain("s1", "h:1", "closed the connection"), "UNCERTAIN"),
        (server_errors.uncertain_partial("ERR x"), "UNCERTAIN"),
        (server_errors.sort_denied("BY"), "ERR"),
    ],
)
def test_codes(words: str, code: str) -> None:
    assert words.split(" ")[0] == code
    assert "\n" not in words


def test_a_backends_fault_names_the_shard() -> None:
    for words in (
        server_errors.shard_down("users", "h:1", "refused"),
        server_errors.timed_out("users", "h:1", 0.5),
        server_errors.uncertain("users", "h:1", "x"),
        server_errors.no_replica("users"),
    ):
        assert "'users'" in words
    assert "within 0.5 s" in server_errors.timed_out("users", "h:1", 0.5)


def test_a_refusal_says_why() -> None:
    assert errors.refused("acl|setuser", "not the proxy's") == (
        "ERR 'acl|setuser' is refused by the proxy: not the proxy's. Run it on the server itself"
    )
    assert errors.refused("debug", "") == "ERR 'debug' is refused by the proxy. Run it on the server itself"


def test_a_bad_configuration_keeps_its_problems() -> None:
    error = ConfigError((("listen", "is no address"), ("shards", "are missing")))
    assert error.problems == (("listen", "is no address"), ("shards", "are missing"))
    assert str(error) == "listen: is no address\nshards: are missing"
    assert isinstance(error, SlotgateError)
    assert issubclass(BackendError, SlotgateError)
