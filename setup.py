"""Compiles the engine where it can: the package works without, more slowly.

Everything else about the package stands in pyproject.toml. ``SLOTGATE_BUILD`` says what a build may do without:

- ``auto`` (default): compile; where that can not be done, say so and go on with the plain sources.
- ``require``: compile or fail (the container image).
- ``skip``: do not compile.

``SLOTGATE_CFLAGS`` adds options for the compiler and the linker (a sanitizer's, for example).

The engine is compiled whole or not at all: its modules use each other's C structures, which a plain module does not
have. A build in the source folder (an editable install, ``make compile``) begins by removing what an earlier one left
there, so that an old engine is never loaded beside new sources.
"""

import os
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError, CCompilerError

HERE = Path(__file__).resolve().parent
BUILD = os.environ.get("SLOTGATE_BUILD", "auto")
FLAGS = shlex.split(os.environ.get("SLOTGATE_CFLAGS", ""))
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # types of the engine stand in the .pxd; annotations are for people and mypy
    "binding": False,
}
MOST_JOBS = 4  # a compiler takes 200 MB for the largest module


def engine() -> list[Extension]:
    """The modules to compile: those with a .pxd beside them, from the .pyx (a twin in C's terms) or else the .py.

    A .pyx without a .py beside it is a module of Linux only.
    """
    if BUILD not in ("auto", "require", "skip"):
        raise SystemExit(f"SLOTGATE_BUILD is {BUILD!r}: say auto, require or skip")
    if BUILD == "skip":
        return []
    sources = {path.with_suffix(""): path.with_suffix(".py") for path in HERE.glob("proxy/**/*.pxd")}
    sources |= {path.with_suffix(""): path for path in HERE.glob("proxy/**/*.pyx")}
    if sys.platform != "linux":
        sources = {module: path for module, path in sources.items() if module.with_suffix(".py").exists()}
    return [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            extra_compile_args=["-O3", "-g0", *FLAGS],
            extra_link_args=FLAGS,
        )
        for source in sorted(path.relative_to(HERE) for path in sources.values())
    ]


def remove_compiled(folder: Path) -> None:
    """Every compiled module of the package in ``folder``, those of other Pythons too: which are old is not known."""
    for suffix in ("so", "pyd"):
        for path in folder.glob(f"proxy/**/*.{suffix}"):
            path.unlink()


class BuildEngine(build_ext):
    """Translates by Cython and compiles: all modules or none."""

    command_name = "build_ext"  # what a warning begins with

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = min(MOST_JOBS, os.cpu_count() or 1)

    def run(self) -> None:
        in_place = self.inplace
        folder = HERE if in_place else Path(self.build_lib)
        remove_compiled(folder)
        whole = False
        try:
            super().run()
            whole = True
        except Exception as problem:
            if BUILD == "require":
                raise
            self.extensions: list[Extension] = []
            why = "the C compiler failed" if isinstance(problem, CCompilerError) else problem
            self.warn(
                f"the engine is not compiled: {why}. Slotgate works without, and takes about 5 times the CPU under "
                "pipelined load. (SLOTGATE_BUILD=require makes this an error.)"
            )
        finally:
            if not whole:
                remove_compiled(folder)
        if in_place:
            for extension in self.extensions:  # copied with the time of an earlier build where nothing had changed
                os.utime(HERE / self.get_ext_filename(extension.name))

    def build_extensions(self) -> None:
        """Compile into the build folder; called with the compiler set up."""
        self._try_compiler()
        how = self._how()
        record = Path(self.build_temp, "how")
        if not record.exists() or record.read_text() != how:
            self.force = True  # times say nothing about options
        self._translate()
        super().build_extensions()
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(how)

    def _try_compiler(self) -> None:
        """Find out within a moment, and in words, what else every module would fail for."""
        with TemporaryDirectory() as folder:
            source = Path(folder, "nothing.c")
            source.write_text("#include <Python.h>\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=FLAGS)
                self.compiler.link_shared_object(objects, str(Path(folder, "nothing.so")), extra_postargs=FLAGS)
            except CCompilerError as problem:
                raise BaseError(
                    f"there is no C compiler ({self.compiler.compiler_so[0]}) that finds the headers of Python "
                    "(Debian, Ubuntu: apt-get install gcc libc6-dev python3-dev)"
                ) from problem

    def _how(self) -> str:
        """What, besides the sources, decides what comes out."""
        try:
            from Cython import __version__ as cython
        except ImportError as problem:
            raise BaseError(
                "Cython is missing, which a build without isolation has to find installed (pip install cython)"
            ) from problem
        return repr((cython, DIRECTIVES, FLAGS))

    def _translate(self) -> None:
        from Cython.Build import cythonize

        translated: list[Any] = cythonize(
            [Extension(extension.name, extension.sources) for extension in self.extensions],
            compiler_directives=DIRECTIVES,
            build_dir="build/cython",
            force=self.force,
            quiet=not self.verbose,
        )
        sources = {module.name: module.sources for module in translated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]


class BuildSources(build_py):
    """An editable install that is told not to compile has no engine from before either."""

    def run(self) -> None:
        if self.editable_mode and BUILD == "skip":
            remove_compiled(HERE)
        super().run()


setup(ext_modules=engine(), cmdclass={"build_ext": BuildEngine, "build_py": BuildSources})
