"""Processes: the worker that serves, the supervisor of several, and what operators see of them. The top floor.

::

    service           the composition root: what the clients of a worker share
    server_events     tells its parts what happens at the servers
    made_from_config  its parts as far as the configuration alone says them
    server            the process that serves: signals, start and end
    worker            one of several workers, started by the supervisor
    supervisor        keeps what has to outlive a worker
    control_channel   messages between the supervisor and a worker
    child             starts a process of the proxy's own
    admin_port        keeps the sockets of the admin port, and its process
    admin_process     the process that speaks HTTP at the admin port
    admin             ``/metrics``, ``/healthz``, ``/readyz`` and ``/topology``
    admin_access      who may ask there
    admin_http        HTTP connections, and their bounds
    report            how a worker is, and how all are together
    metric_snapshot   the values of the metrics as plain data
    logs              structured logs
    loop_lag          how late the event loop is, and why
    memory            how the C library keeps memory that was freed
    identity          which process this is, for INFO
    script_lookup     asks the other workers for a script
"""
