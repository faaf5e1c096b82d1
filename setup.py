"""Compiles the engine where it can: the package works without, more slowly.

Everything else about the package stands in pyproject.toml. ``SLOTGATE_BUILD`` says what a build may do without:

- ``auto`` (default): compile; where there is no compiler, say so and go on with the plain sources.
- ``require``: compile or fail (the container image).
- ``skip``: do not compile.

``SLOTGATE_CFLAGS`` adds options for the compiler and the linker (a sanitizer's, for example).
"""

import os
import shlex
import sys
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
LINUX = sys.platform == "linux"
# A module with a .pxd beside it is part of the engine: its .pyx (a twin in C's terms) or its .py is compiled.
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # types of the engine stand in the .pxd; annotations are for people and mypy
    "binding": False,
}


def engine() -> list[Extension]:
    """The modules to compile."""
    build = os.environ.get("SLOTGATE_BUILD", "auto")
    if build not in ("auto", "require", "skip"):
        raise SystemExit(f"SLOTGATE_BUILD is {build!r}: say auto, require or skip")
    if build == "skip":
        return []
    flags = shlex.split(os.environ.get("SLOTGATE_CFLAGS", ""))
    found = []
    for declarations in sorted(HERE.glob("proxy/**/*.pxd")):
        twin = declarations.with_suffix(".pyx")
        source = twin if twin.exists() and (twin.stem != "wires" or LINUX) else declarations.with_suffix(".py")
        name = ".".join(declarations.relative_to(HERE).with_suffix("").parts)
        if declarations.stem == "__init__":
            continue
        found.append(
            Extension(
                name,
                [str(source.relative_to(HERE))],
                extra_compile_args=["-O3", "-g0", *flags],
                extra_link_args=flags,
                optional=build == "auto",
            )
        )
    from Cython.Build import cythonize

    extensions: list[Extension] = cythonize(
        found, compiler_directives=DIRECTIVES, build_dir="build/cython", show_all_warnings=False
    )
    return extensions


setup(ext_modules=engine())
