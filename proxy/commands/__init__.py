"""Redis's facts about its commands, and the proxy's decision for each. No I/O, apart from ``generate``.

The files in ``data`` are written by ``generate`` from the COMMAND replies of real servers.

::

    facts       the classes of a command's facts and of the decision taken from them
    table       finds a command's facts by its name
    keys        finds the keys in a command's arguments by its key specs
    key_access  finds the access that a command has to each of its keys
    getkeys     finds the keys of commands that their key specs do not cover
    legacy      first key, last key and step, for servers without key specs
    derive      decides from Redis's facts what the proxy does
    overrides   the reviewed table of corrections, each with its reason
    modules     the part of the overrides about the commands of modules
    own         the facts of the proxy's own commands
    categories  the commands and ACL categories that rules may name
    access      the settings of servers that could shut the proxy out
    reply       parses a COMMAND reply into facts
    datafile    reads and writes the generated data files
    generate    the developer's tool that writes the data files
    listing     the table of ``slotgate commands``, as text
    markdown    the same table as docs/commands.md
"""
