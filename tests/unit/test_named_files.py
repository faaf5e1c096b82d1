"""Files of the tests and the benchmarks that are named somewhere exist, and ``tests/unit`` mirrors the package."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxy

ROOT = Path(__file__).parents[2]
PACKAGE = Path(proxy.__file__).parent
TEXTS = (
    "docs/**/*.md",
    "*.md",
    "Makefile",
    "pyproject.toml",
    "proxy/**/*.py",
    "tests/**/*.py",
    "tests/*.sh",
    ".ci/run",
)
NAMED = re.compile(r"(?<![\w./-])(?:tests|benchmarks)(?:/\w+)+\.(?:py|sh|md|json)\b")
MODULE = re.compile(r"(?<![\w./-])(?:python3? -m )((?:tests|benchmarks)(?:\.\w+)+)")
HISTORY = ("CHANGELOG.md",)
WHOLE = {
    "benchmarks",
    "benchmarks_parts",
    "class_sizes",
    "cli",
    "compiled",
    "container",
    "engine_state",
    "errors",
    "floors",
    "metrics",
    "named_files",
}
"""What tests beside the folders are about: the whole, or what belongs to no package of it."""


def texts() -> Iterator[Path]:
    for pattern in TEXTS:
        yield from (path for path in sorted(ROOT.glob(pattern)) if path.name not in HISTORY)


def test_each_file_that_is_named_exists() -> None:
    named = {(path, name) for path in texts() for name in NAMED.findall(path.read_text("utf-8"))}
    assert len(named) > 20
    assert sorted(f"{path.relative_to(ROOT)}: {name}" for path, name in named if not (ROOT / name).exists()) == []


def test_each_module_that_is_run_exists() -> None:
    named = {(path, name) for path in texts() for name in MODULE.findall(path.read_text("utf-8"))}
    assert named
    wrong = [name for _, name in named if not (ROOT / name.replace(".", "/")).with_suffix(".py").exists()]
    assert wrong == []


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in (ROOT / "tests/unit").glob("*/__init__.py")))
def test_each_folder_is_of_a_package(folder: str) -> None:
    assert (PACKAGE / folder / "__init__.py").exists()


def test_what_is_about_one_package_is_in_its_folder() -> None:
    beside = {path.stem.removeprefix("test_") for path in (ROOT / "tests/unit").glob("test_*.py")}
    assert beside - WHOLE == set(), "to be moved to the folder of its package"
