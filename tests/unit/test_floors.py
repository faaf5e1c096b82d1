"""The floors of the house: the imports of every module hold the table in the package's docstring true."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import proxy

ROOT = Path(proxy.__file__).parent
STARTED = {
    *("proxy.__main__", "proxy.cli", "proxy.commands.generate"),
    *("proxy.worker.admin_process", "proxy.worker.worker"),
}
"""Run by name, so nothing needs to import them."""
DEVELOPERS = {"proxy.commands.generate"}
"""A tool that makes the data file; no part of what is served."""
IO = {"asyncio", "socket", "selectors", "ssl", "uvloop"}
PURE = range(4)
SOCKETS = "transport"
"""The package below the connections to servers that may do I/O."""
CONTEXTS = {"proxy.config.certificates"}
"""Makes TLS contexts of files, as the check of the files; connects nothing."""
IMPORT_SYSTEM = {"os", "sys", "importlib.machinery"}
"""What the package needs to leave its compiled modules aside."""


def floors() -> dict[str, int]:
    """Floor by name of a package or top module, from rows of the form ``1  resp   framing, encoding``."""
    assert proxy.__doc__ is not None
    rows = re.findall(r"^    (\d)  (\w+)  +\S", proxy.__doc__, re.MULTILINE)
    found = {name: int(floor) for floor, name in rows}
    assert len(found) == len(rows), "a name is on two floors"
    assert sorted(set(found.values())) == list(range(10))
    return found


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax trees of the package's Python sources, by full name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"), str(path))
    return found


def top(module: str) -> str:
    """The name that stands in the table: a package stands for what is in it."""
    return module.split(".")[1]


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports below ``node``, in functions too, and what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from statements(child)


@cache
def imports(module: str) -> frozenset[str]:
    """The full names of the modules that ``module`` imports; of names in this package, the modules they come from."""
    found: set[str] = set()
    for statement in statements(modules()[module]):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
            continue
        assert not statement.level, f"{module} has a relative import"
        assert statement.module is not None
        for alias in statement.names:
            inner = f"{statement.module}.{alias.name}"
            found.add(inner if inner in modules() or inner in cimports() else statement.module)
    return frozenset(found)


def own(module: str) -> set[str]:
    """The modules of this package that ``module`` imports; the package itself (its version) is everybody's."""
    return {name for name in imports(module) if name.startswith("proxy.")}


@cache
def cimports() -> dict[str, set[str]]:
    """By module with declarations: the modules of this package that they and its twin in C's terms name."""
    found: dict[str, set[str]] = {}
    for path in (*ROOT.rglob("*.pxd"), *ROOT.rglob("*.pyx")):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        names = re.findall(r"^from (proxy[.\w]*) c?import ", path.read_text("utf-8"), re.MULTILINE)
        found.setdefault(name, set()).update(names)
    return found


COMPILED_ONLY = sorted(set(cimports()) - set(modules()))
"""Modules that have no Python source."""
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
MODULES = sorted(name for name in modules() if name != "proxy")


def test_the_package_imports_nothing_of_its_own() -> None:
    assert imports("proxy") <= IMPORT_SYSTEM


def test_the_table_names_every_module() -> None:
    here = {top(name) for name in (*MODULES, *COMPILED_ONLY)} - {"__main__"}
    assert set(floors()) == here


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_names_each_of_its_modules_once(package: str) -> None:
    text = ast.get_docstring(modules()[f"proxy.{package}"], clean=False)
    assert text is not None
    named = re.findall(r"^    (\w+)  +\S", text, re.MULTILINE)
    here = {name.rpartition(".")[2] for name in (*MODULES, *COMPILED_ONLY) if name.startswith(f"proxy.{package}.")}
    assert sorted(named) == sorted(here)


def test_nothing_nests_deeper() -> None:
    """The finder of SLOTGATE_ENGINE=python and the Makefile know one level."""
    assert all(name.count(".") <= 2 for name in MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_lead_downwards(module: str) -> None:
    table = floors() | {"__main__": 9}
    too_high = {name for name in own(module) if table[top(name)] > table[top(module)]}
    assert not too_high


@pytest.mark.parametrize("module", sorted(cimports()))
def test_declarations_lead_downwards_too(module: str) -> None:
    table = floors()
    too_high = {name for name in cimports()[module] if table[top(name)] > table[top(module)]}
    assert not too_high
    assert cimports()[module] <= {*modules(), *COMPILED_ONLY}
    if module in COMPILED_ONLY:
        plain = {name for user in MODULES for name in own(user)}
        assert (ROOT.parent / module.replace(".", "/")).with_suffix(".pyi").exists() == (module in plain)
        assert module in plain | {name for user in COMPILED_ONLY for name in cimports()[user]}


def test_nothing_imports_itself_in_a_circle() -> None:
    """Declarations for Cython count as well."""
    try:
        names = (*MODULES, *COMPILED_ONLY)
        graph = {name: (own(name) if name in modules() else set()) | cimports().get(name, set()) for name in names}
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {error.args[1]}")


def test_what_is_imported_exists() -> None:
    """A name that is no module would go unnoticed by the other tests."""
    assert {name for module in MODULES for name in own(module)} <= {*modules(), *COMPILED_ONLY}


@pytest.mark.parametrize(
    "module", [name for name in MODULES if floors().get(top(name), 9) in PURE and top(name) != SOCKETS]
)
def test_the_core_does_no_io(module: str) -> None:
    if module not in DEVELOPERS:
        allowed = {"ssl"} if module in CONTEXTS else set()
        assert not {name.partition(".")[0] for name in imports(module)} & IO - allowed


def test_every_module_is_used() -> None:
    used = {name for module in modules() for name in own(module) if name != module}
    # A package is used with what is in it.
    used |= {".".join(name.split(".")[:-1]) for name in used}
    assert set(MODULES) - used == STARTED - used
