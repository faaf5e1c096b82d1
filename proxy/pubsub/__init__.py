"""Subscriptions at the servers: one for each channel, however many clients listen. The package knows no clients.

::

    hub               the subscriptions of all clients of a worker
    subscriber        the subscriptions at one server, over one connection
    changes           the states of the topics at one server, and the commands that are still to be sent
    pending_commands  the commands that a server has not answered yet
    topic             one channel or pattern: who listens, and who waits until it stands
    beginnings        what was asked for, or asked to end, and is not confirmed yet: publishers wait for it
"""
