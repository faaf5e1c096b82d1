"""A request on the slow path, taken apart."""

from proxy.commands.facts import Fact


class Request:
    """One request whose command is known. The fast paths make none.

    ``frame`` is the request in RESP, ``args`` its arguments, the command's name first; ``now`` is when it was taken, in
    seconds of the loop's clock. Nobody changes it: a request that is carried out as another one is another ``Request``.
    """

    __slots__ = ("args", "fact", "frame", "now")

    def __init__(self, fact: Fact, args: list[bytes], frame: bytes, now: float) -> None:
        self.fact = fact
        self.args = args
        self.frame = frame
        self.now = now

    def __repr__(self) -> str:
        return f"Request({self.fact.name}, {len(self.args)} arguments, {len(self.frame)} bytes)"
