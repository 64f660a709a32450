"""Patroni's own class for etcd 3: two members of a PostgreSQL cluster that agree on who leads, without the PostgreSQL.

It calls what `patroni.ha` calls, with short times.
"""

import threading
import time

from patroni.dcs import get_dcs
from patroni.exceptions import DCSError

from python import ask, endpoints, eventually, same

TTL = 8
NODES = [f"{host}:{port}" for host, port in endpoints()]


def member(name, **more):
    """What one Patroni has of its store: its lease, and the thread that watches for it."""
    times = {"ttl": TTL, "loop_wait": 1, "retry_timeout": 6}
    return get_dcs({"scope": "demo", "name": name, "etcd3": {"hosts": NODES}, **times, **more})


def leader(dcs):
    """Who leads as one member sees it, which may be a moment late."""
    found = dcs.get_cluster().leader
    return found and found.name


def update(dcs, lsn):
    """What the leader does in each loop."""
    return dcs.update_leader(dcs.get_cluster(), lsn)


def renew(dcs):
    """What a member does that does not lead, for longer than its time to live."""
    for _ in range(TTL + 2):
        dcs.touch_member({"state": "running"})
        time.sleep(1)


def connected(dcs):
    """The node that a member talks to."""
    return dcs._client._base_uri.removeprefix("http://")


def wakes(dcs, act):
    """Whether a member that waits for the others is woken by what is done meanwhile."""
    dcs.event.clear()
    meanwhile = threading.Timer(0.5, act)
    meanwhile.start()
    is_woken = dcs.watch(None, 15)
    meanwhile.join()
    return is_woken


a, b = member("a"), member("b")
ctl = member("ctl", patronictl=True)

# A cluster begins.
same("The first to initialize the cluster may.", bool(a.initialize(create_new=True, sysid="7")), True)
same("The second may not.", bool(b.initialize(create_new=True, sysid="8")), False)
same("Both enter themselves.", [bool(dcs.touch_member({"state": "running", "of": dcs._name})) for dcs in (a, b)], [True, True])
eventually("Each sees both.", lambda: [sorted(m.name for m in dcs.get_cluster().members) for dcs in (a, b)], [["a", "b"]] * 2)
same("A member's key has its lease.", {m.name: m.session for m in ctl.get_cluster().members}, {"a": a._lease, "b": b._lease})
same("Nobody leads.", ctl.get_cluster().is_unlocked(), True)

# The lock is acquired and kept.
same("The first to want the leader's lock gets it.", bool(a.acquire_leader_lock()), True)
same("The second does not.", bool(b.acquire_leader_lock()), False)
eventually("The other sees who leads.", lambda: leader(b), "a")
for second in range(TTL + 2):
    same(f"The leader updates its lock, time {second}.", update(a, 100 + second), True)
    b.touch_member({"state": "running"})
    time.sleep(1)
same("It leads still, after more than its time to live.", leader(ctl), "a")
eventually("The other sees what it wrote.", lambda: b.get_cluster().status.last_lsn, 100 + TTL + 1)

# It is handed over.
same("A failover is asked for.", ctl.manual_failover("a", "b"), True)
eventually("The leader sees it.", lambda: (a.get_cluster().failover or a).candidate, "b")
version = a.get_cluster().failover.version
same("One that expects an older version changes nothing.", a.set_failover_value("{}", version="1"), False)
same("Who waits is woken when the leader lets go.", wakes(b, lambda: a.delete_leader(a.get_cluster().leader)), True)
same("It takes the lock over.", bool(b.acquire_leader_lock()), True)
same("The failover is done with.", b.set_failover_value("", version=version), True)
eventually("The former leader sees the new one.", lambda: leader(a), "b")
same("It does not get the lock back.", bool(a.acquire_leader_lock()), False)

# It is lost: b does nothing for longer than its time to live.
same("Who waits is woken when the leader's lease ends.", wakes(a, lambda: renew(a)), True)
same("It takes the lock over, with a lease of its own.", bool(a.acquire_leader_lock()), True)
eventually("Who lost it sees that.", lambda: leader(b), "a")
same("What it led with is gone, and it is told so.", update(b, 300), False)
same("The entry of a member without a lease is gone.", [m.name for m in ctl.get_cluster().members], ["a"])
same("It comes back.", bool(b.touch_member({"state": "running"})), True)

# What is written at a version.
same("A configuration is written.", a.set_config_value('{"ttl": 8}'), True)
eventually("The other reads it.", lambda: b.get_cluster().config.data, {"ttl": 8})
state = a.write_sync_state("a", ["b"], 0)
same("The synchronous state has its revision.", (state.leader, int(state.version) > 0), ("a", True))
same("Another version of it changes nothing.", b.write_sync_state("b", ["a"], 0, version=1), None)
same("Its own version does.", bool(a.delete_sync_state(version=str(state.version))), True)

# Nodes die.
update(a, 400)
dead = ask(f"kill {connected(a)}")
same("The leader keeps its lock when its node dies.", update(a, 401), True)
same("It has another node.", connected(a) != dead, True)
eventually("The other sees what it wrote.", lambda: b.get_cluster().status.last_lsn, 401)
ask("start")
update(a, 402)
ask("kill leader")
same("It keeps its lock when the cluster's leader dies.", update(a, 403), True)
same("Nobody else gets it meanwhile.", bool(b.acquire_leader_lock()), False)
eventually("The other sees what it wrote then.", lambda: b.get_cluster().status.last_lsn, 403)
same("Watches wake after all that.", update(a, 404) and wakes(b, lambda: a.delete_leader(a.get_cluster().leader)), True)
same("The lock is taken over after all that.", bool(b.acquire_leader_lock()), True)

# Without a majority nobody is told that the lock is lost: Patroni asks its members then, and would demote itself otherwise.
ask("start")
update(b, 500)
for node in NODES[1:]:
    ask(f"kill {node}")
answers = []


def update_unanswered():
    try:
        answers.append(update(b, 501))
        return answers[-1]
    except DCSError:
        return "no answer"


eventually("Without a majority there is no answer soon.", update_unanswered, "no answer")
same("There is none later.", update_unanswered(), "no answer")
same("Nobody was told that the lock is lost.", False in answers, False)
ask("start")
eventually("The lock is kept when the majority is back.", lambda: update(b, 502), True)
eventually("The other sees that.", lambda: (leader(a), a.get_cluster().status.last_lsn), ("b", 502))
same("A cluster is deleted.", bool(ctl.delete_cluster()) and ctl.get_cluster().is_empty(), True)
