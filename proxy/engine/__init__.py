"""The engine's primitives: small contracts of a few methods, each cheap enough to be called once per command."""
