"""A run of the tests must not test an old engine, or a part of one, without saying so."""

import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests.support.engine_state import compilable, problem

SUFFIX = EXTENSION_SUFFIXES[0]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with two modules that can be compiled, one of them a twin, and one that can not."""
    folder = tmp_path / "proxy"
    (folder / "engine").mkdir(parents=True)
    for name in ("one.py", "one.pxd", "engine/two.py", "engine/two.pxd", "engine/two.pyx", "plain.py"):
        touch(folder / name, 1000)
    return folder


def touch(path: Path, when: float) -> None:
    path.touch()
    os.utime(path, (when, when))


def compile_all(package: Path, when: float) -> None:
    touch(package / f"one{SUFFIX}", when)
    touch(package / f"engine/two{SUFFIX}", when)


def test_compiled_after_the_sources_is_right(package: Path) -> None:
    compile_all(package, 2000)
    assert problem(package, chosen=False, compilable=True) is None
    touch(package / "plain.py", 3000)
    assert problem(package, chosen=False, compilable=True) is None


@pytest.mark.parametrize("name", ["one.py", "one.pxd", "engine/two.py", "engine/two.pyx", "engine/two.pxd"])
def test_older_than_a_source_is_wrong(package: Path, name: str) -> None:
    compile_all(package, 2000)
    touch(package / name, 3000)
    said = problem(package, chosen=False, compilable=True)
    assert said == f"the compiled engine is older than proxy/{name}: run make compile"
    assert problem(package, chosen=False, compilable=False) == said
    assert problem(package, chosen=True, compilable=True) is None


def test_not_compiled_is_wrong_where_it_could_be(package: Path) -> None:
    said = problem(package, chosen=False, compilable=True)
    assert said is not None
    assert "run make compile" in said
    assert problem(package, chosen=False, compilable=False) is None
    assert problem(package, chosen=True, compilable=True) is None


def test_compiled_for_another_python_is_not_compiled(package: Path) -> None:
    touch(package / "one.cpython-30-another.so", 2000)
    assert problem(package, chosen=False, compilable=False) is None
    assert problem(package, chosen=False, compilable=True) is not None


def test_a_part_is_wrong_everywhere(package: Path) -> None:
    touch(package / f"one{SUFFIX}", 2000)
    for could in (True, False):
        said = problem(package, chosen=False, compilable=could)
        assert said == "the engine is compiled only in part, two is not: run make compile"


def test_a_module_of_one_system_may_be_missing(package: Path) -> None:
    for name in ("linux.pyx", "linux_more.pyx", "linux_more.pxd"):
        touch(package / name, 1000)
    compile_all(package, 2000)
    assert problem(package, chosen=False, compilable=True) is None


def test_a_compiler_that_is_not_there_compiles_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "missing"))
    assert not compilable()


def test_a_compiler_that_finds_no_headers_compiles_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert not compilable()
