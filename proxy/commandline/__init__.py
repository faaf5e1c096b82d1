"""What the command line does beside serving: the check of a configuration, and the help to write one.

The modules return text and exit codes; ``proxy.cli`` prints. Without ``--connect`` no event loop is imported.

::

    parser            argparse with one-line errors, and suggestions for misspelt commands and options
    check             the command ``slotgate check``: findings, summary, values and servers as text or JSON
    findings          one finding of the check: how grave it is, where, and what to do
    summary           the meaning of a configuration in a few lines
    advice            warnings about a configuration that can be used, but hardly is what is meant
    machine_advice    warnings about a configuration on this machine: files, sockets, cores, descriptors
    values_shown      every value of a configuration with its source
    server_facts      the facts that a server reports about itself, from its replies
    server_questions  connects to all servers and sentinels and asks them
    server_advice     judges the facts that the servers report
    schema            the JSON Schema of the configuration file, for editors
    starting_file     the commented configuration that ``slotgate init`` writes
"""
