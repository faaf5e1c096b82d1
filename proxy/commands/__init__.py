"""What Redis says about its commands, and what the proxy does with each.

``facts`` are the shapes, ``table`` finds a command's fact, ``keys`` finds the keys in its arguments, ``overrides`` is
the one reviewed table of what Redis's facts do not say. ``data/commands.json`` is written by ``generate``.
"""
