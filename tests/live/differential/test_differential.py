"""The same commands, straight to one server and through the proxy to three: the replies are equal, byte for byte."""

import pytest

from proxy.resp import encode
from tests.live.differential.cases import CONVERSATIONS, Conversation
from tests.live.differential.compare import differences
from tests.support.proxy_process import ProxyProcess
from tests.support.site import Site
from tests.support.wire import Wire

pytestmark = pytest.mark.live


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


@pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])
@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda conversation: conversation.name)
def test_one_shard(swift: Site, single: ProxyProcess, conversation: Conversation, protocol: int) -> None:
    swift.clean()
    commands = conversation.commands("one")
    request = b"".join(map(encode.request, commands))
    with swift.direct(protocol) as server, Wire(single.address, protocol=protocol) as proxy:
        server.send(request)
        proxy.send(request)
        expected = server.replies(len(commands))
        found = proxy.replies(len(commands))
    different = differences(swift.plain.binary.kind, commands, expected, found)
    assert not different, "\n".join(different)


@pytest.mark.parametrize(
    "line", ["HGETDEL h FIELDS 0", "HSETEX h", "DELIFEQ k", "MSETEX 1", "COMMANDLOG", "CLUSTERSCAN"]
)
def test_wrong_arity_of_what_not_every_server_has(site: Site, line: str) -> None:
    """The proxy knows commands of newer servers; to clients of an older one they are unknown."""
    with site.direct() as server, site.client() as proxy:
        assert proxy.ask(*line.split()) == server.ask(*line.split())
