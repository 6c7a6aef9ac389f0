"""The lab: real Debian hosts with Consul in namespaces, ways to break them, and a local Slack to talk to the bot.

Consul is Debian's 1.8.7, or any other program whose path is given: `Lab.up(consul=PATH)`, else LAB_CONSUL. From 1.15
on servers have a log store of choice: `Lab.up(log_store="wal")`, else LAB_LOG_STORE.

Old Consul, below 0.7, has a stand-in (see `lab.oldconsul`), which is given like any other program:

    from lab.oldconsul.build import program
    cluster = await lab.up(servers=3, consul=program())  # Consul 0.6.4, as far as anybody sees
    await break_cluster(lab, "leave-all")                # all followers for ever, peers.json `null`, s1 stalest

`python -m lab up --old` does the same for a person. Tests that a real old program shall pass too take the
program from the `old_consul` fixture: LAB_CONSUL's if that is set, else the stand-in. `leave-all` stops the
servers gracefully one after the other and starts them all; `leave-stopped` leaves them stopped.
"""
