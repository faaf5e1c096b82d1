"""The processes: the worker that serves, the supervisor of several workers, and the admin port. The top floor.

::

    service           the composition root: what the clients of a worker share
    server_events     passes the events of the servers to the parts of a worker
    configured_users  the users of the configuration or of an aclfile
    audit_log         the audit log of one worker
    made_from_config  the parts of a worker that follow from the configuration alone
    server            the process that serves: signals, start and end
    learning          asks every server for its facts, and asks again after reconnections
    worker            one of several workers, started by the supervisor
    draining          how a process ends: what asks for the end, and how its clients leave
    supervisor        starts the workers, and keeps the state that outlives a worker
    control_channel   messages between the supervisor and a worker
    watchdog          finds a worker, or a supervisor, that does not answer
    child             starts a child process, and has what the supervisor knows of a worker's
    admin_port        keeps the sockets of the admin port, and its process
    admin_process     the process that speaks HTTP at the admin port
    admin             ``/metrics``, ``/healthz``, ``/readyz`` and ``/topology``
    admin_access      who may use the admin port
    admin_http        the HTTP connections of the admin port, and their limits
    report            the state of a worker, and the state of all workers together
    readiness         whether the proxy should get clients: the answer of ``/readyz``
    metric_snapshot   the values of the metrics as plain data
    reloading         reads the configuration again
    logs              structured logs
    loop_lag          measures how late the event loop is, and finds the cause
    memory            settings of the C library for freed memory
    memory_watch      keeps the memory of a worker within its share of ``limits.memory``
    identity          the identity of this process, for INFO
    script_lookup     asks the other workers for a script
    systemd           tells systemd the state of the process, and takes over the sockets that it has opened
"""
