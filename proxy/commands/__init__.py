"""What Redis says about its commands, and what the proxy does with each. Pure.

``data/commands.json`` and ``data/modules.json`` are written by ``generate`` from the COMMAND replies of real servers.

::

    facts      the shape of a command's facts, and the decision taken from them
    table      finds a command's facts by its name
    keys       finds the keys in a command's arguments by its key specs
    getkeys    finds the keys of commands that their key specs do not cover
    legacy     first key, last key and step, as servers without key specs have them
    derive     from Redis's facts to what the proxy does
    overrides  the one reviewed table of corrections, each with its reason
    modules    the part of that table about the commands of modules
    own        the facts of the commands that are the proxy's own
    access     settings of servers that decide who may log in
    reply      reads a COMMAND reply into facts
    datafile   reads and writes the generated file
    generate   the developer's tool that makes it
    listing    the table of ``slotgate commands``, as text
    markdown   the same table as docs/commands.md
"""
