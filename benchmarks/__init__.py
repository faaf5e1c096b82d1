"""How fast Slotgate is beside other proxies: ``python -m benchmarks`` (README.md says what it measures and how).

::

    scenarios   what is sent: the declared table, with the targets
    peers       the proxies: how each is found and configured
    processes   starting and stopping them, over the same shards
    loadgen     redis-benchmark: its command line, its figures
    proc        CPU time and memory of a process, as the kernel says
    run         one run of one scenario
    rounds      all runs, interleaved, within a time
    report      medians, ratios, verdicts
    figures     ratios and tables
    machine     what it ran on, and who else used it meanwhile

    paired      two versions beside each other in slices, with lockstep, a load that is always the same
    overhead    what measuring costs (python -m benchmarks.overhead)
    against     this checkout beside another one (--against PATH)
    memory      idle clients, bursts, very large values (python -m benchmarks.memory), with many_clients and usage
    micro       the steps of a request by themselves (python -m benchmarks.micro), with steps: adapt it to the code
"""
