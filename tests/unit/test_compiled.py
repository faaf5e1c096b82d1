"""Which engine runs, and how to choose."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import proxy
from proxy.compiled import MODULES, WARNING, engine
from proxy.config.environment import unknown_variables

ROOT = Path(proxy.__file__).parent


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)


def ask(code: str, **environ: str) -> str:
    """What a new interpreter prints."""
    inherited = {key: value for key, value in os.environ.items() if key != "SLOTGATE_ENGINE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": str(ROOT.parent), **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_every_module_with_declarations_is_named() -> None:
    declared = (path for path in ROOT.rglob("*.pxd") if path.stem != "__init__")
    assert {name(path) for path in declared if path not in of_linux(".pxd")} == set(MODULES)


def of_linux(suffix: str) -> set[Path]:
    """The files of that kind of the modules that are of Linux only: they have no plain source."""
    twins = (path for path in ROOT.rglob("*.pyx") if not path.with_suffix(".py").exists())
    return {path.with_suffix(suffix) for path in twins}


def test_every_twin_has_declarations_and_a_plain_source() -> None:
    for path in set(ROOT.rglob("*.pyx")) - of_linux(".pyx"):
        assert path.with_suffix(".pxd").exists()
        assert path.with_suffix(".py").exists()


def test_only_transports_are_of_one_system() -> None:
    """What there is instead, without them, is another class (``proxy.transport.transports``)."""
    assert {name(path) for path in of_linux(".pyx")} == {"proxy.transport.epoll", "proxy.transport.epoll_transport"}


def test_it_is_compiled_only_if_every_module_is() -> None:
    plain = [module for module in MODULES if (importlib.import_module(module).__file__ or "").endswith(".py")]
    assert engine() == ("python" if plain else "compiled")
    assert plain in ([], list(MODULES)), "a mixture of compiled and plain modules"


def compiled() -> bool:
    """Whether a new interpreter has the compiled engine."""
    return ask("from proxy.compiled import engine; print(engine())") == "compiled"


SAYS = "from proxy.compiled import MODULES, engine; import importlib, sys;"
PLAIN = f"{SAYS} [importlib.import_module(name) for name in MODULES];" + (
    "print(engine(), *{sys.modules[name].__file__.rpartition('.')[2] for name in MODULES})"
)


def test_the_compiled_one_can_be_left_aside() -> None:
    assert ask(PLAIN, SLOTGATE_ENGINE="python") == "python py"


def test_the_plain_one_takes_no_part_of_the_compiled_one() -> None:
    transports = (
        "import asyncio; from proxy.transport.transports import best_transports;"
        " print(type(best_transports(asyncio.new_event_loop())).__name__)"
    )
    assert ask(transports, SLOTGATE_ENGINE="python") == "LoopTransports"
    assert ask(transports) == ("EpollTransports" if compiled() and sys.platform == "linux" else "LoopTransports")


def test_children_of_a_plain_one_are_plain() -> None:
    """What the environment says, processes that it starts (process guard, workers) are told too."""
    again = f"import subprocess, sys, proxy; subprocess.run([sys.executable, '-c', {PLAIN!r}], check=True)"
    assert ask(again, SLOTGATE_ENGINE="python") == "python py"


def test_nothing_else_can_be_chosen() -> None:
    assert unknown_variables({"SLOTGATE_ENGINE": "python"}, frozenset()) == []
    for value in ("", "compiled", "Python", "1"):
        (problem,) = unknown_variables({"SLOTGATE_ENGINE": value}, frozenset())
        assert problem == (
            "SLOTGATE_ENGINE",
            'is not "python": say that to leave the compiled engine aside, or unset it',
        )


@pytest.mark.parametrize("value", ["compiled", "pyhton"])
def test_a_wrong_choice_is_told_by_the_command(value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "check", "--static", "127.0.0.1:7000"],
        env={**os.environ, "SLOTGATE_ENGINE": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'SLOTGATE_ENGINE: is not "python"' in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_warning_says_what_to_do() -> None:
    assert "make compile" in WARNING
    assert "compiler" in WARNING
