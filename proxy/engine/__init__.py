"""The engine's primitives: small contracts of a few methods, each cheap enough to be called once per command.

Modules with a .pxd beside them are the engine, here and elsewhere in the package: Cython compiles them, from the .pyx
where there is one (a twin in C's terms, with the same methods) and else from the .py itself. Everything also runs as it
stands, more slowly.
"""
