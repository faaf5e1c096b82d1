"""Slotgate, a RESP-speaking sharding proxy.

The journey of a request::

    client bytes
      → ClientConnection frames the request, without decoding it                 client/connection
      → fast path? one key, a plain command, a session in its plain state        client/fast_path
            yes → slot → the out-buffer of the shard's connection                sharding/slots, planning/split
            no  → hiredis parses the frame                                       client/client
                → the session answers the proxy's own commands                   session/
                → the features: MULTI, BLPOP, SUBSCRIBE ...                      features/
                → the planner decides: Forward | Pin | Scatter | Reject          planning/planner
                → the dispatcher carries the plan out                            backends/dispatch
      → connection to a server: one write per turn, requests in a FIFO           backends/shared, engine/inflight
    server bytes
      → the reply is framed, the FIFO popped                                     engine/reply_reader
            → MOVED, ASK, TRYAGAIN, READONLY ... are followed                    backends/redirections
            → a client's reply: copied out in its turn, else parked              engine/window
            → a part of a Scatter: merged when the last part is there            planning/merge
      → one write per client per turn                                            client/connection

The floors. A module imports only from lower floors and from its own, without a circle, also for type checkers
(``tests/unit/test_floors.py``). Each package's own text names its modules::

    0  errors      the errors of the proxy, and their words on the wire
    0  server_errors  the words of the errors about shards and servers
    0  metrics     the table of metrics, and the counters that the data path adds to
    0  compiled    tells which engine runs: the compiled one, or plain Python
    1  resp        RESP: framing, encoding, limits
    1  engine      the primitives of the data path: FIFO, reply reader, reply window, sinks
    1  sharding    slots, co-location rules, the topology
    2  commands    the facts about commands that Redis reports, and how the proxy handles each
    2  config      the configuration
    3  planning    decides how a command is carried out, how replies are merged, and what may be retried
    3  session     the protocol's state of one client; the commands that the proxy answers itself
    3  transport   sockets, TLS, turns of the event loop, flow control
    4  backends    connections to servers, shared and dedicated; redirections and retries
    5  discovery   static shards, Sentinel, Redis Cluster: the sources of the topology
    5  pubsub      subscriptions at the servers
    6  features    transactions, blocking, pub/sub, tracking, MONITOR ... for one client
    7  client      one client's connection, and the fast paths
    8  worker      the processes, their composition root, the admin port
    9  devservers  real local servers for the demo and the tests
    9  commandline  the check of a configuration, and what helps to write one
    9  cli         the command line

With ``workers = N`` all of this is in each of N processes (worker/worker) on one port, under a supervisor
(worker/supervisor) that keeps what has to outlive a worker: the listening sockets, the numbers of clients, and the
counters.

Hot modules have a .pxd beside them and are compiled by Cython when the package is built (setup.py). Uncompiled they
work the same, but more slowly. ``SLOTGATE_ENGINE=python`` in the environment disables the compiled ones.
"""

import os as _os

__version__ = "0.1.0"

if _os.environ.get("SLOTGATE_ENGINE") == "python":
    # From here on only sources are found in the package's folders.
    import sys as _sys
    from importlib.machinery import SOURCE_SUFFIXES as _SUFFIXES
    from importlib.machinery import FileFinder as _Finder
    from importlib.machinery import SourceFileLoader as _Loader

    for _folder in __path__[0], *(_entry.path for _entry in _os.scandir(__path__[0]) if _entry.is_dir()):
        _sys.path_importer_cache[_folder] = _Finder(_folder, (_Loader, _SUFFIXES))
