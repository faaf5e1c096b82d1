"""SLOTGATE RELOAD: the configuration is read again, in all workers; with DRYRUN only said what would change."""

from proxy import errors
from proxy.errors import SlotgateError
from proxy.features.request import PendingReply, Request
from proxy.features.state import Modes
from proxy.resp import encode
from proxy.session.session import World
from proxy.transport.flow_control import Stop


def reload(modes: Modes, request: Request) -> bool:
    """Carry out SLOTGATE RELOAD [DRYRUN], after all earlier requests are answered; the next ones wait."""
    client, args = modes.client, request.args
    dry = len(args) == 3 and args[2].lower() == b"dryrun"
    if len(args) > 2 and not dry:
        client.refuse(request.fact, errors.SYNTAX)
        return True
    if not client.alone():
        return False
    pending = client.hold(request.fact)
    client.flow.stop(Stop.BLOCKED)
    client.service.loop.create_task(_answering(client.session.world, pending, dry))
    return True


async def _answering(world: World, pending: PendingReply, dry: bool) -> None:
    try:
        reply = encode.array(map(encode.bulk, [] if world.reload is None else await world.reload(dry)))
    except SlotgateError as error:
        reply = encode.error(errors.not_reloaded(str(error)))
    pending.answer(reply)
