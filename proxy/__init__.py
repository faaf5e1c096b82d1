"""Slotgate, a RESP-speaking sharding proxy.

The journey of a request::

    client bytes
      → ClientConnection frames the request, without decoding it            client.py, resp/, landing.py (large ones)
      → fast lane? one key, a plain command, a session in its plain state   fastlane.py
            yes → slot → the shard's backend connection                     slots.py, multikey.py (several keys)
            no  → hiredis parses it → Session (what is the proxy's own)     conversation.py, session.py, clientcmds.py
                → modes: what the client is in the middle of, or begins     modes.py (see below)
                → planner: Forward | Pin | Scatter | Reject                 planner.py
                → Dispatcher carries the plan out                           dispatch.py
      → Backend: one write per loop turn, a FIFO of what is in flight       backend.py, engine/inflight.py
    backend bytes
      → the reply is framed, the FIFO popped                                engine/replyreader.py
            → a client's reply: copied out in its turn, else parked         engine/window.py
            → a part of a Scatter: merged when the last part is there       merge.py
      → one write per client per loop turn                                  client.py

What a client can be in the middle of, and where else a request can be carried out than on a shared connection::

    MULTI ... EXEC, WATCH        transaction.py (pure), transactions.py, watching.py, trip.py, ending.py
    blocking commands, WAIT      blocking.py, waiting.py, streamends.py, over pursuit.py
    SUBSCRIBE ..., PUBLISH       channels.py, glob.py (pure), subscriptions.py, publishing.py;
                                 the servers' side: pubsub.py, pubsublink.py, pubsubtopic.py
    CLIENT TRACKING              trackoptions.py (pure), tracking.py, tracker.py, companions.py: connections of its own
    CLIENT PAUSE, CLIENT LIST    pausing.py; allclients.py, clientline.py (pure)
    SCAN                         cursors.py (pure), scanning.py
    INFO, CONFIG GET, HELLO      info.py, commonsettings.py, serverfacts.py, identity.py; TS.MGET ... series.py
    MONITOR, SLOTGATE            spectators.py, slotgatecmds.py, settings.py, errand.py (one request to one server)
    scripts                      scripts.py (what is kept), lostscripts.py (other workers), slowscripts.py,
                                 aside.py (SCRIPT KILL)
    errors that clients word     refusals.py, proof.py (pure), evidence.py (a script's MOVED is data)
    more replies than one        framing.py (pure: the table), unshared.py (over leases)
    CLUSTER reads                clustercmds.py, presented.py, advertised.py (``present_as = "cluster"``)
    connections for these        lease.py (one), leases.py (the pool)

The floors; a module imports from lower floors, and from its own without a circle (``tests/unit/test_floors.py``):

    0  errors, enginekind, identity, metrics, tally, jobs                   no I/O, no asyncio
    1  resp, slots, colocation, engine                                      bytes in, offsets out
    2  commands, topology, config, serverfacts                              facts
    3  session, clientcmds, clientline, allclients, scatter, multikey       decisions: pure, sans-io
    3  cursors, keyslots, planner                                           decisions: pure, sans-io
    3  info, merge, retries, refusals, proof, framing, scripts, lag          decisions: pure, sans-io
    3  settings, commonsettings, streamends                                 decisions: pure, sans-io
    3  presented, clustercmds, transaction, trackoptions                    decisions: pure, sans-io
    3  querylimit, longreplies, glob, channels, series                      decisions: pure, sans-io
    4  addresses, descriptors, tls, wires, epollwires, clock, turn           backends
    4  slices, gates, greeting, surroundings, leftovers, backend            backends
    4  lease, stations, leases, pool, routes, dispatch, detour              backends
    4  control, discovery                                                   backends
    4  pubsub, pubsublink, pubsubtopic                                      backends
    5  flow, backlog, ownwrites, pursuit, blocking, waiting, modes           clients
    5  lane, fastlane, owncalls, ownlane                                    clients
    5  ending, trip, watching, transactions, errand, aside, unshared         clients
    5  subscriptions, publishing, scanning, looplag                         clients
    5  companions, tracker, pausing, slowscripts                            clients
    5  slotgatecmds, spectators, tracking, conversation, landing, client     clients
    5  lostscripts, evidence, census, clients, rolewatch, upkeep            clients
    5  service, report, advertised                                          clients
    5  listeners, admin                                                     clients
    6  logs, memory, channel, worker, server, supervisor, keeper, cli       processes
    6  localservers, localcluster, localsentinel, demosite, demo            local servers, for the demo and the tests

With ``workers = N`` all of this is in each of N processes (worker.py) on one port, under a supervisor (supervisor.py)
that keeps what has to outlive a worker: the listening sockets, the numbers of clients, what was counted.

Hot modules have a .pxd beside them and are compiled by Cython when the package is built (setup.py). Uncompiled they
work the same, more slowly. ``SLOTGATE_ENGINE=python`` in the environment leaves the compiled ones aside.
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
