"""The central classes stay small: how many attributes each has, and how many arguments it is made with. Each class of
the package has a name of its own.

A class is counted by its source: its ``__slots__``, and what its methods set on ``self``. What a base class has is
counted there and not again, so that each class of a chain is held to the same limits.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import proxy

ROOT = Path(proxy.__file__).parent
MOST_ATTRIBUTES = 25
MOST_ARGUMENTS = 8
CENTRAL = (
    "Backend",
    "Client",
    "ClientConnection",
    "Discovery",
    "ReconnectingConnection",
    "ServerConnection",
    "Service",
    "Upstream",
    "UpstreamEvents",
)
ATTRIBUTES: Mapping[str, int] = {}
ARGUMENTS: Mapping[str, int] = {}
"""The classes that are above the limits, with the number that each has: a number may only shrink, and a class that is
within the limits is taken out."""


@cache
def classes() -> dict[str, ast.ClassDef]:
    """The classes of the package by their name."""
    found: dict[str, ast.ClassDef] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8"), str(path)).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = node
    return found


def look_up(name: str) -> ast.ClassDef:
    return classes()[name]


def bases(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """The classes of the package that it inherits from, directly or not."""
    for base in node.bases:
        while isinstance(base, ast.Subscript):
            base = base.value
        name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        if name in classes():
            yield classes()[name]
            yield from bases(classes()[name])


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """What is assigned to below ``node``, each name of a tuple by itself."""
    for child in ast.walk(node):
        if isinstance(child, ast.Assign):
            found = list(child.targets)
        elif isinstance(child, ast.AnnAssign | ast.AugAssign):
            found = [child.target]
        else:
            continue
        while found:
            target = found.pop()
            if isinstance(target, ast.Tuple | ast.List):
                found += target.elts
            else:
                yield target.value if isinstance(target, ast.Starred) else target


def named(node: ast.ClassDef) -> set[str]:
    """What the source of the class names as attributes of its objects."""
    found: set[str] = set()
    for statement in node.body:
        if isinstance(statement, ast.Assign) and any(getattr(to, "id", "") == "__slots__" for to in statement.targets):
            slots = ast.literal_eval(statement.value)
            found |= {slots} if isinstance(slots, str) else set(slots)
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            me = statement.args.args[0].arg if statement.args.args else ""
            for target in targets(statement):
                if isinstance(target, ast.Attribute) and getattr(target.value, "id", "") == me:
                    found.add(target.attr)
    return found - {"__weakref__", "__dict__"}


def properties(node: ast.ClassDef) -> set[str]:
    """What looks like an attribute and is a method."""
    return {
        statement.name
        for statement in node.body
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.decorator_list
    }


def attributes(name: str) -> set[str]:
    """What the class has that its bases do not have."""
    node = look_up(name)
    return named(node).difference(properties(node), *(named(base) for base in bases(node)))


def arguments(name: str) -> list[str]:
    """What an object of the class is made with, by an ``__init__`` that may be inherited."""
    for node in (look_up(name), *bases(look_up(name))):
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                given = statement.args
                rest = [one for one in (given.vararg, given.kwarg) if one is not None]
                return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, *rest)][1:]
    return []


@pytest.mark.parametrize("name", CENTRAL)
def test_attributes(name: str) -> None:
    found = sorted(attributes(name))
    assert found, "nothing was counted"
    most = ATTRIBUTES.get(name, MOST_ATTRIBUTES)
    assert len(found) <= most, f"{len(found)} attributes, {most} may be: {found}"


@pytest.mark.parametrize("name", CENTRAL)
def test_constructor_arguments(name: str) -> None:
    found = arguments(name)
    assert found, "nothing was counted"
    most = ARGUMENTS.get(name, MOST_ARGUMENTS)
    assert len(found) <= most, f"{len(found)} arguments, {most} may be: {found}"


def test_the_tables_name_only_what_is_above_the_limits() -> None:
    assert [name for name in ATTRIBUTES if len(attributes(name)) <= MOST_ATTRIBUTES] == []
    assert [name for name in ARGUMENTS if len(arguments(name)) <= MOST_ARGUMENTS] == []


def test_a_name_stands_for_one_class() -> None:
    """Of a module that is compiled only, its stubs have the classes."""
    sources = [*ROOT.rglob("*.py"), *(stub for stub in ROOT.rglob("*.pyi") if not stub.with_suffix(".py").exists())]
    named: dict[str, list[str]] = {}
    for path in sorted(sources):
        for node in ast.parse(path.read_text("utf-8"), str(path)).body:
            if isinstance(node, ast.ClassDef):
                named.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in named.items() if len(paths) > 1} == {}


def test_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
class Base:
    __slots__ = ("one", "two")

class Counted(Base):
    __slots__ = "three"

    def __init__(this, first, *, second=None, **others):
        this.one, (this.four, this.three) = 1, (4, 3)
        this.five: int
        this.four += 1
        other.six = 6

    @property
    def seven(this):
        this.eight = 8

    @seven.setter
    def seven(this, value):
        this.seven = value
"""
    parsed = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    monkeypatch.setitem(globals(), "classes", lambda: parsed)
    assert attributes("Counted") == {"three", "four", "five", "eight"}
    assert arguments("Counted") == ["first", "second", "others"]
    assert attributes("Base") == {"one", "two"}
    assert arguments("Base") == []
