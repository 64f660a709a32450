"""etcd3gw, which speaks JSON over HTTP: what OpenStack's tooz coordinates with."""

import threading

import etcd3gw
from etcd3gw.exceptions import Etcd3Exception

from python import ask, endpoints, eventually, fails, same

clients = [etcd3gw.Etcd3Client(host=host, port=port, timeout=10) for host, port in endpoints()]
first, second, third = clients

same("Three members are listed.", len(first.members()), 3)
same("The status names a leader that is a member.", first.status()["leader"] in [m["ID"] for m in first.members()], True)

# Keys.
same("A put is accepted.", first.put("gw/a", "1"), True)
same("Another node reads it.", second.get("gw/a"), [b"1"])
same("Bytes that are no text come back.", third.put("gw/b", b"\x00\xff\xfe") and first.get("gw/b"), [b"\x00\xff\xfe"])
same("An absent key has no value.", first.get("gw/absent"), [])
value, about = first.get("gw/a", metadata=True)[0]
same("What is told of a key is told in strings.", (about["key"], about["version"], value), (b"gw/a", "1", b"1"))
revision = int(about["mod_revision"])
first.put("gw/a", "2")
same("A revision is kept.", second.get("gw/a", revision=revision), [b"1"])
fails("A revision of the future is refused.", Etcd3Exception, lambda: first.get("gw/a", revision=1 << 40))
same("A prefix is read in order.", [v for v, _ in first.get_prefix("gw/", sort_order="descend")], [b"\x00\xff\xfe", b"2"])
same("A limit holds.", first.get("gw/", range_end="gw0", limit=1), [b"2"])

# Transactions.
same("A key that exists is not created.", first.create("gw/a", "no"), False)
same("A key that does not exist is created.", second.create("gw/c", "new"), True)
same("A value is replaced if it is as expected.", first.replace("gw/c", "new", "newer"), True)
same("It is not replaced otherwise.", first.replace("gw/c", "new", "newest"), False)
same("The replaced value is read.", third.get("gw/c"), [b"newer"])

# Deletions.
same("A deleted key is gone.", first.delete("gw/c") and second.get("gw/c"), [])
same("Nothing is deleted twice.", first.delete("gw/c"), False)
same("A prefix is deleted.", first.delete_prefix("gw/") and second.get_prefix("gw/"), [])

# Watches.
events, cancel = first.watch_prefix("watched/", prev_kv=True)
second.put("watched/a", "1")
second.put("watched/a", "2")
second.delete("watched/a")
seen = [next(events) for _ in range(3)]
same("Events come in order.", [event.get("type", "PUT") for event in seen], ["PUT", "PUT", "DELETE"])
same("An event has the value.", seen[1]["kv"]["value"], b"2")
same("A deletion has the value before it.", "prev_kv" in seen[2], True)
cancel()
begin = int(seen[0]["kv"]["mod_revision"])
past, cancel = third.watch("watched/a", start_revision=begin)
same("A watch begins in the past.", int(next(past)["kv"]["mod_revision"]), begin)
cancel()
threading.Timer(0.5, lambda: second.put("watched/once", "now")).start()
same("A watch waits for one event.", first.watch_once("watched/once", timeout=10)["kv"]["value"], b"now")

# Leases.
lease = first.lease(ttl=60)
second.put("leased/a", "1", lease=lease)
same("A lease tells its keys.", lease.keys(), [b"leased/a"])
same("A lease tells what is left.", 50 < lease.ttl() <= 60, True)
same("A lease is renewed.", lease.refresh(), 60)
lease.revoke()
same("A revoked lease takes its keys along.", third.get("leased/a"), [])
same("A revoked lease is not renewed.", lease.refresh(), -1)
short = first.lease(ttl=1)
first.put("leased/b", "1", lease=short)
eventually("A lease that nobody renews ends.", lambda: second.get("leased/b"), [])

# Locks.
lock, other = first.lock("gate", ttl=60), second.lock("gate", ttl=60)
same("A lock is acquired.", lock.acquire(), True)
same("Nobody else acquires it.", other.acquire(), False)
same("Its holder holds it.", (lock.is_acquired(), other.is_acquired()), (True, False))
same("Its holder renews it.", lock.refresh(), 60)
same("Only its holder releases it.", (other.release(), lock.release()), (False, True))
same("It is free then.", other.acquire(), True)

# The leader dies. This client knows one node, so the others are asked.
dead = ask("kill leader")
left = [client for client, (host, port) in zip(clients, endpoints()) if f"{host}:{port}" != dead]
eventually("The others serve without their leader.", lambda: left[0].put("gw/after", "1"), True)
same("A lock outlives the leader.", left[1].lock("gate").acquire(), False)
