"""The protocol state of one client, and the commands that the proxy answers itself. Pure: no I/O, no clock.

A session holds the client's identity and its settings. A session knows neither the connection nor the servers.

::

    session           the state of one client, and SELECT, RESET, PING ...
    users             the users of a configuration
    passwords         passwords, kept as digests and compared in constant time
    acl_rules         a user's rules, in Redis's ACL language
    acl_check         whether a user may run a command, by its rules
    acl_text          the descriptions of users and the errors of denied commands, in servers' words
    acl_users         all users, and the aclfile that may hold them
    audit             the contract of the audit log
    audit_rules       the rules of the audit log
    acl_log           the log of denied commands and failed logins
    login_delays      the delay of logins from an address, or as a user, of which many logins have failed
    acl_access        whether a client may run a command, by the rules of its user
    acl_commands      the ACL subcommands
    login_commands    AUTH and HELLO
    commands          the handlers of this package's commands: a part of the table in features/commands
    own_command       a row of that table
    client_commands   CLIENT subcommands about the client that asks
    cross_worker      CLIENT subcommands about the clients of all workers: LIST, KILL, PAUSE ...
    client_line       a client as CLIENT LIST and CLIENT INFO show it
    cluster_commands  the read subcommands of CLUSTER
    listener          a listening address: who may log in there, and what its clients see
    virtual_cluster   the cluster that the proxy presents (``present_as = "cluster"``)
    tracking_options  the options of CLIENT TRACKING
    script_cache      the scripts that clients have sent, kept by their digest
"""
