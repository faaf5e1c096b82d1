"""The rules of the audit log, and which paths the commands of recorded users take."""

import pytest

from proxy.commands.categories import CommandSet
from proxy.commands.table import CommandTable
from proxy.session.acl_rules import AclUser, change
from proxy.session.acl_users import Users
from proxy.session.audit_rules import ALLOWED, DENIED, AuditRule, AuditRules
from proxy.session.users import open_to_all

TABLE = CommandTable.builtin()
COMMANDS = CommandSet(TABLE)


def names(bits: int) -> set[str]:
    return {name for name in COMMANDS.names if COMMANDS.bits[name] & bits}


@pytest.mark.parametrize(
    ("rule", "there", "absent"),
    [
        (AuditRule(), {"get", "set", "ping"}, set()),
        (AuditRule(commands=("@write",)), {"set", "del"}, {"get", "ping"}),
        (AuditRule(commands=("get", "config|set")), {"get", "config|set"}, {"set", "config|get"}),
        (AuditRule(commands=("config",)), {"config|set", "config|get"}, {"get"}),
        (AuditRule(users=("o*",)), {"get"}, set()),
        (AuditRule(users=("x",)), set(), {"get"}),
        (AuditRule(outcome=DENIED), set(), {"get"}),
    ],
)
def test_the_commands_of_a_rule(rule: AuditRule, there: set[str], absent: set[str]) -> None:
    found = names(AuditRules([rule]).commands_of("ops", COMMANDS))
    assert there <= found
    assert not absent & found


def test_a_user_who_is_recorded_leaves_the_fast_path_for_that_only() -> None:
    users = Users(COMMANDS, [open_to_all("default"), change(AclUser("app"), [b"on", b"+@all", b"~*"], COMMANDS)])
    users.audit_by(AuditRules([AuditRule(users=("app",), commands=("@write",))]))
    default, app = users.get("default"), users.get("app")
    assert default is not None
    assert app is not None
    assert default.unrestricted
    assert users.default_plain
    assert not app.unrestricted
    assert not app.keyed  # it has a lookup of its own
    assert not app.own  # where commands are queued in transactions, too
    facts = {name: TABLE.get(name) for name in (b"get", b"set")}
    assert [facts[name] is not None and app.records(facts[name]) for name in facts] == [False, True]  # type: ignore[arg-type]
    assert app.check(facts[b"set"], [b"set", b"a", b"1"]) is None  # type: ignore[arg-type]
    users.learn(COMMANDS, users.describing.dialect)
    again = users.get("app")
    assert again is not None
    assert again.audited == app.audited


def test_denied_commands_cost_nobody_the_fast_path() -> None:
    users = Users(COMMANDS, [open_to_all("default")])
    users.audit_by(AuditRules([AuditRule(outcome=DENIED)]))
    assert users.default_plain


@pytest.mark.parametrize(
    ("rule", "recorded"),
    [
        (AuditRule(), True),
        (AuditRule(commands=("auth",)), True),
        (AuditRule(commands=("@connection",)), True),
        (AuditRule(commands=("@write",)), False),
        (AuditRule(keys=(b"*",)), False),
        (AuditRule(outcome=DENIED), False),
        (AuditRule(users=("other",)), False),
    ],
)
def test_logins(rule: AuditRule, recorded: bool) -> None:
    assert AuditRules([rule]).login("ops", ALLOWED) is recorded


def test_keys() -> None:
    rule = AuditRule(keys=(b"a:*", b"b"))
    assert [rule.has_key([key]) for key in (b"a:1", b"b", b"c", b"bb")] == [True, True, False, False]
    assert rule.has_key([b"c", b"a:2"])
    assert not rule.has_key([])
    assert AuditRule().has_key([])
