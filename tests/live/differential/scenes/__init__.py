"""The texts of the scenes (``tests.live.differential.scene``), by subject."""

from tests.live.differential.scene import Scene, scenes
from tests.live.differential.scenes.administration import ADMINISTRATION
from tests.live.differential.scenes.blocking import BLOCKING
from tests.live.differential.scenes.connections import CONNECTIONS
from tests.live.differential.scenes.pubsub import PUBSUB, PUBSUB_2, PUBSUB_3
from tests.live.differential.scenes.tracking import TRACKING, TRACKING_2
from tests.live.differential.scenes.transactions import TRANSACTIONS, WATCHES


def _named(subject: str, texts: dict[str, str], protocols: tuple[int, ...] = (2, 3)) -> list[Scene]:
    return scenes({f"{subject}: {name}": text for name, text in texts.items()}, protocols)


SCENES = [
    *_named("transaction", TRANSACTIONS),
    *_named("watch", WATCHES),
    *_named("blocking", BLOCKING),
    *_named("pubsub", PUBSUB),
    *_named("pubsub", PUBSUB_2, (2,)),
    *_named("pubsub", PUBSUB_3, (3,)),
    *_named("tracking", TRACKING, (3,)),
    *_named("tracking", TRACKING_2, (2,)),
    *_named("connection", CONNECTIONS),
    *_named("administration", ADMINISTRATION),
]

VALKEYS_OWN = {
    "transaction: MULTI and WATCH inside": "Valkey 9 words these errors otherwise, and they spoil the transaction",
    "administration: what never stands in a transaction": "Valkey 9 names the command in this error",
    "connection: READONLY, READWRITE and ASKING": "Valkey 9 takes READONLY and READWRITE without cluster mode",
}
"""Where Valkey does otherwise than Redis, which is the reference; by the scene's name, with what it does."""

REDIS_8S_OWN = {
    "transaction: of the connection's own state": (
        "Redis 8.2 answers nothing to an AUTH that fails inside a transaction: EXEC announces a reply more than it "
        "sends, and takes that of the next command for it"
    ),
}
"""The same of Redis 8.2."""
