"""Both engines in one process: the package as it is imported, and once more from its sources alone."""

import importlib
import os
import sys
from functools import cache
from types import ModuleType

import proxy
from proxy.compiled import MODULES, engine
from proxy.config.environment import ENGINE

_MORE = ("proxy.config", "proxy.worker.service", "proxy.sharding.topology", "proxy.resp.limits", "proxy.engine.entry")
"""Further modules that the subjects need; everything that they import comes with them."""


class Engine:
    """One of the two: ``kind``, and its modules by their names without ``proxy.``."""

    def __init__(self, kind: str, modules: dict[str, ModuleType]) -> None:
        self.kind = kind
        self._modules = modules

    def __repr__(self) -> str:
        return f"<the {self.kind} engine>"

    def __getitem__(self, name: str) -> ModuleType:
        return self._modules[name]


def _load() -> dict[str, ModuleType]:
    return {name.removeprefix("proxy."): importlib.import_module(name) for name in (*MODULES, *_MORE)}


def _ours(name: str) -> bool:
    return name == "proxy" or name.startswith("proxy.")


@cache
def compiled() -> Engine:
    """The package as everybody imports it, which must be the compiled one."""
    assert engine() == "compiled"
    return Engine("compiled", _load())


@cache
def plain() -> Engine:
    """The package once more, from its sources, beside the one that everybody imports."""
    _load()  # so that nothing is left that would be imported into the wrong one later
    folders = [folder for folder in sys.path_importer_cache if folder.startswith(proxy.__path__[0])]
    finders = {folder: sys.path_importer_cache[folder] for folder in folders}
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _ours(name)}
    wanted = os.environ.get(ENGINE)
    os.environ[ENGINE] = "python"
    try:
        modules = _load()
    finally:
        if wanted is None:
            del os.environ[ENGINE]
        else:
            os.environ[ENGINE] = wanted
        for name in [name for name in sys.modules if _ours(name)]:
            del sys.modules[name]
        for folder in [folder for folder in sys.path_importer_cache if folder.startswith(proxy.__path__[0])]:
            del sys.path_importer_cache[folder]
        sys.path_importer_cache.update(finders)
        sys.modules.update(kept)
    for name, module in modules.items():
        assert module is not kept.get(f"proxy.{name}")
        assert str(module.__file__).endswith(".py"), f"{name} is not plain"
    return Engine("plain", modules)
