"""The table of the proxy's own commands: it has a row for each, and the rows say what the other parts do."""

from collections.abc import Iterator

import pytest

from proxy import errors
from proxy.commands.facts import Fact, Handling
from proxy.commands.table import CommandTable
from proxy.features import commands
from proxy.features.commands import OWN_COMMANDS, WHILE_SUBSCRIBED
from proxy.features.own_dispatch import FeatureCommand
from proxy.planning.channels import BEGIN, END
from proxy.planning.exec_block import answered_here
from proxy.planning.planner import Planner, Reject
from proxy.resp import encode
from proxy.session.commands import PARTS
from proxy.session.cross_worker import CrossWorkerCommand
from proxy.session.own_command import InMulti, SessionCommand
from tests.support.plans import THREE
from tests.support.sessions import Room

OWN = (Handling.SESSION, Handling.MODE)


def facts() -> Iterator[Fact]:
    """The facts of commands that are the proxy's own. A container is none: what it contains is called."""
    for fact in CommandTable.with_modules():
        for one in (fact, *fact.subcommands.values()):
            if one.handling in OWN and not one.subcommands:
                yield one


PLANNER = Planner(THREE, "split")
FACTS = {fact.name: fact for fact in facts()}


def test_each_own_command_has_a_row() -> None:
    assert FACTS.keys() <= OWN_COMMANDS.keys()


def test_each_row_has_a_command() -> None:
    assert OWN_COMMANDS.keys() <= FACTS.keys()


@pytest.mark.parametrize("name", sorted(OWN_COMMANDS))
def test_features_carry_out_what_has_their_handling(name: str) -> None:
    assert isinstance(commands.find(name), FeatureCommand) is (FACTS[name].handling is Handling.MODE)


@pytest.mark.parametrize("name", sorted(OWN_COMMANDS))
def test_rows_say_what_exec_makes_of_a_command(name: str) -> None:
    row, fact = OWN_COMMANDS[name], FACTS[name]
    if row.in_multi is InMulti.AT_ONCE:
        return
    args = [word.encode() for word in name.split("|")]
    args += [b"1"] * (abs(fact.arity) - len(args))
    planned = PLANNER.member(fact, args, encode.request(args))
    if row.in_multi is InMulti.REFUSED:
        assert planned == Reject(errors.not_in_transaction(name))
    else:
        assert not isinstance(planned, Reject)
        assert answered_here(fact) is (row.in_multi is InMulti.ANSWERED)


@pytest.mark.parametrize("name", sorted(OWN_COMMANDS))
def test_a_feature_answers_at_exec_what_no_server_does(name: str) -> None:
    row = OWN_COMMANDS[name]
    if isinstance(row, FeatureCommand):
        assert (row.at_exec is not None) is (row.in_multi is InMulti.ANSWERED)


def test_what_is_carried_out_inside_a_transaction() -> None:
    """As in Redis (flag no_multi aside), with RESET and QUIT: these end it."""
    at_once = {name for name, row in OWN_COMMANDS.items() if row.in_multi is InMulti.AT_ONCE}
    assert at_once == {"multi", "exec", "discard", "watch", "quit", "reset"}


def test_what_a_subscribed_client_may_send() -> None:
    assert {*BEGIN, *END, "ping", "quit", "reset"} == WHILE_SUBSCRIBED


def test_which_commands_span_the_workers() -> None:
    spanning = {name for name, row in OWN_COMMANDS.items() if isinstance(row, CrossWorkerCommand)}
    about_all = {f"client|{word}" for word in ("list", "kill", "pause", "unpause", "unblock")}
    about_users = {f"acl|{word}" for word in ("deluser", "load", "log", "setuser")}
    assert spanning == {"slotgate|clients", *about_all, *about_users}
    assert PARTS.keys() == {*spanning, "script|show", "script|flush"}


def test_what_only_servers_know_of_clients_is_refused() -> None:
    row = commands.find("client|of-tomorrow")
    assert isinstance(row, SessionCommand)
    reply = row.run(Room().enter(), [b"CLIENT", b"OF-TOMORROW"], 0.0)
    assert reply.startswith(b"-ERR 'client|of-tomorrow' is refused by the proxy: it is about the one server")
