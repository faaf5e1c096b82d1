"""Subscriptions at the servers: one for each channel, however many clients listen. It knows listeners, not clients.

::

    hub         what all clients of a worker are subscribed to
    subscriber  the subscriptions at one server, over one connection
    topic       one channel or pattern: who listens, and who waits until it stands
"""
