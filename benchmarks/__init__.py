"""How fast Slotgate is beside other proxies: ``python -m benchmarks`` (README.md says what it measures and how).

::

    scenarios   what is sent: the declared table, with the targets
    peers       the proxies: how each is found, configured and started over the same shards
    measure     one run: redis-benchmark's figures, and the proxy's CPU time from /proc
    rounds      all runs, interleaved, within a time
    report      medians, ratios, tables
    machine     what it ran on, and who else used it meanwhile
    micro       the steps of a request by themselves (python -m benchmarks.micro)
"""
