"""The same commands, straight to one server and through the proxy to three: the replies are equal, byte for byte."""

import pytest

from proxy.commands.facts import Handling
from proxy.commands.table import CommandTable
from proxy.resp import encode
from tests.live.differential.cases import CONVERSATIONS, Conversation
from tests.live.differential.compare import differences, name_of
from tests.live.site import Site

pytestmark = pytest.mark.live

COMPARED = (Handling.KEYED, Handling.MULTI_SHARD)
COVERED_AT_LEAST = 0.95
LEFT_OUT = {"object|freq": "a good reply needs a server with an LFU policy"}


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda conversation: conversation.name)
def test_one_command_at_a_time(site: Site, conversation: Conversation, protocol: int) -> None:
    different: list[str] = []
    for tag in site.tags():
        site.clean()
        commands = conversation.commands(tag)
        with site.direct(protocol) as server, site.client(protocol) as proxy:
            expected = [server.ask(*args) for args in commands]
            found = [proxy.ask(*args) for args in commands]
        different += differences(site.plain.binary.kind, commands, expected, found)
    assert not different, "\n".join(different)


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda conversation: conversation.name)
def test_all_in_one_write(site: Site, conversation: Conversation, protocol: int) -> None:
    different: list[str] = []
    for tag in site.tags():
        site.clean()
        commands = conversation.commands(tag)
        request = b"".join(map(encode.request, commands))
        with site.direct(protocol) as server, site.client(protocol) as proxy:
            server.send(request)
            proxy.send(request)
            expected = server.replies(len(commands))
            found = proxy.replies(len(commands))
        different += differences(site.plain.binary.kind, commands, expected, found)
    assert not different, "\n".join(different)


@pytest.mark.parametrize(
    "line", ["HGETDEL h FIELDS 0", "HSETEX h", "DELIFEQ k", "MSETEX 1", "COMMANDLOG", "CLUSTERSCAN"]
)
def test_wrong_arity_of_what_not_every_server_has(site: Site, line: str) -> None:
    """The proxy knows commands of newer servers; to clients of an older one they are unknown."""
    with site.direct() as server, site.client() as proxy:
        assert proxy.ask(*line.split()) == server.ask(*line.split())


def test_the_list_is_broad(site: Site) -> None:
    """Nearly every command with keys that this server has is compared, and reaches the server with a good reply."""
    table = CommandTable.builtin()
    commands = site.plain.ask("COMMAND")
    assert isinstance(commands, list)
    names = {row[0].decode() for row in commands}
    wanted = {
        fact.name
        for top in table
        if top.name in names
        for fact in (top.subcommands.values() or [top])
        if fact.handling in COMPARED and not (fact.blocking and fact.getkeys is None)
    }
    answered: set[str] = set()
    tag = site.tags()[0]
    for conversation in CONVERSATIONS:
        site.clean()
        with site.direct() as server:
            answered |= {name_of(args) for args in conversation.commands(tag) if server.ask(*args)[:1] != b"-"}
    missing = wanted - answered - set(LEFT_OUT)
    assert len(missing) <= (1 - COVERED_AT_LEAST) * len(wanted), sorted(missing)
