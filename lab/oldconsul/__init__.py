"""A stand-in for Consul 0.6.4: the program that the staged bootstrap is for, which no registry has any more.

`lab.oldconsul.build.program()` gives one runnable file named `consul` for the hosts' own python3 (stdlib only).
It behaves as the real 0.6.4 did in the captures in tests/data: the command line, the HTTP answers, the files in
raft/, the signals, the log lines, and the Raft of that time with peers.json as a live file. That Raft is real:
terms, votes, replication, commit by a majority, leases; its rules are told in `rules.py`.

What it leaves out, or does otherwise:

- Gossip is a table sent to everybody a few times a second. A dead member is seen after 3 s (the real one took 4
  to 6 s). No WAN pool, encryption, coordinates, or memory of members over a restart (the hosts join by retry_join).
- No snapshots: the log is never compacted. No ACLs, TLS, DNS, watches, blocking queries, or health checks but
  serfHealth. `consul exec` runs through the gossip port, not through keys of the store.
- A peer that could not be reached is tried again after 1 s at most (the real one waits up to 10 s).
- Servers speak a protocol of their own to each other: it cannot be mixed with a real Consul.

Elections, leases and the time a leave takes are those of the real one.
"""
