"""One client as the protocol sees it, and the commands that the proxy answers itself. Pure: no I/O, no clock.

A session knows who the client is and what it has chosen. It knows neither its connection nor the servers.

::

    session           the state of one client, and HELLO, AUTH, SELECT, RESET ...
    users             the users that a configuration names
    passwords         passwords, kept as digests and compared in constant time
    acl_rules         a user's rules, in Redis's ACL language
    acl_check         whether a user may run a command, by its rules
    acl_text          how servers describe users, and the errors of what is denied
    acl_users         all users, and the file that they may be kept in
    acl_log           the log of what was denied
    acl_access        whether a client may run a command, by the rules of its user
    acl_commands      the ACL subcommands
    commands          what answers each command of this package: a part of the table in features/commands
    own_command       a row of that table
    client_commands   CLIENT subcommands about the client that asks
    cross_worker      CLIENT subcommands about the clients of all workers: LIST, KILL, PAUSE ...
    client_line       a client as CLIENT LIST and CLIENT INFO show it
    cluster_commands  the CLUSTER subcommands that read
    virtual_cluster   the cluster that the proxy passes for (``present_as = "cluster"``)
    tracking_options  the options of CLIENT TRACKING
    script_cache      the scripts that clients have sent, kept by their digest
"""
