"""Subscriptions at the servers: one for each channel, however many clients listen. It knows listeners, not clients.

::

    hub               what all clients of a worker are subscribed to
    subscriber        the subscriptions at one server, over one connection
    changes           the states of the topics at one server, and what it has yet to be told
    pending_commands  the commands that a server has not answered yet
    topic             one channel or pattern: who listens, and who waits until it stands
    beginnings        what was asked for and is not heard yet: who publishes there waits for it
"""
