"""etcd3 for Python: gRPC's own C implementation, and a watch, lease and lock of the client's own."""

import threading

import etcd3
import grpc
from etcd3 import etcdrpc as rpc
from etcd3.etcdrpc.auth_pb2 import Permission

from python import ask, endpoints, eventually, fails, same

clients = [etcd3.client(host=host, port=port, timeout=10) for host, port in endpoints()]
first, second, third = clients

same("Three members are listed.", len(list(first.members)), 3)
status = first.status()
same("The status names its leader.", status.leader.id in [member.id for member in first.members], True)

# Keys.
first.put("py/a", "1")
value, about = second.get("py/a")
same("Another node reads a put.", (value, about.version), (b"1", 1))
same("A put returns the value before.", third.put("py/a", "2", prev_kv=True).prev_kv.value, b"1")
same("An absent key has no value.", first.get("py/absent"), (None, None))
same("A key is created once.", [first.put_if_not_exists("py/b", "x"), second.put_if_not_exists("py/b", "y")], [True, False])
replaced = [first.replace("py/b", "x", "z"), first.replace("py/b", "x", "")]
same("A value is replaced if it is as expected.", replaced, [True, False])
same("A prefix is read in order.", [v for v, _ in second.get_prefix("py/", sort_order="descend")], [b"z", b"2"])
same("A range is read.", [v for v, _ in second.get_range("py/a", "py/b")], [b"2"])
same("A deletion says whether there was a key.", [first.delete("py/b"), second.delete("py/b")], [True, False])

# Transactions.
op = first.transactions
done, answers = first.transaction(
    compare=[op.value("py/a") == "2", op.version("py/a") > 1, op.create("py/new") == 0],
    success=[op.put("py/new", "1"), op.get("py/a"), op.txn([op.create("py/new") == 0], [op.delete("py/a")], [])],
    failure=[op.get("py/a")],
)
same("A transaction with one inside succeeds.", (done, answers[1][0][0], answers[2].response_txn.succeeded), (True, b"2", True))
same("What it deleted is gone.", second.get("py/a")[0], None)
done, answers = second.transaction(compare=[op.value("py/new") == "2"], success=[], failure=[op.get("py/new")])
same("A transaction fails with its other half.", (done, answers[0][0][0]), (False, b"1"))
same("A prefix is deleted.", first.delete_prefix("py/").deleted, 1)

# Watches.
events, cancel = first.watch_prefix("watched/")
second.put("watched/a", "1")
second.delete("watched/a")
seen = [next(events) for _ in range(2)]
same("Events come in order.", [type(event).__name__ for event in seen], ["PutEvent", "DeleteEvent"])
cancel()
past, cancel = third.watch("watched/a", start_revision=seen[0].mod_revision)
same("A watch begins in the past.", next(past).value, b"1")
cancel()
threading.Timer(0.5, lambda: second.put("watched/once", "now")).start()
same("A watch waits for one event.", first.watch_once("watched/once", timeout=10).value, b"now")
revision = second.put("watched/late", "1").header.revision
first.compact(revision)
past, cancel = first.watch("watched/a", start_revision=1)
fails("A watch from what is compacted away is told so.", etcd3.exceptions.RevisionCompactedError, lambda: next(past))

# Leases.
lease = first.lease(60)
second.put("leased/a", "1", lease=lease)
same("A lease tells its time and its keys.", (lease.granted_ttl, list(lease.keys)), (60, [b"leased/a"]))
same("A lease is renewed.", lease.refresh()[0].TTL, 60)
lease.revoke()
same("A revoked lease takes its keys along.", third.get("leased/a"), (None, None))
same("A revoked lease has no time left.", lease.remaining_ttl, -1)
chosen = first.lease(60, lease_id=4711)
fails("A lease is granted once.", etcd3.exceptions.PreconditionFailedError, lambda: second.lease(60, lease_id=4711))
chosen.revoke()
short = first.lease(1)
first.put("leased/b", "1", lease=short)
eventually("A lease that nobody renews ends.", lambda: second.get("leased/b")[0], None)

# Locks.
lock, other = first.lock("gate", ttl=60), second.lock("gate", ttl=60)
same("A lock is acquired.", lock.acquire(), True)
same("Nobody else acquires it.", other.acquire(timeout=1), False)
threading.Timer(0.5, lock.release).start()
same("Who waits for a lock gets it when it is released.", other.acquire(timeout=10), True)
same("Its holder holds it.", (lock.is_acquired(), other.is_acquired()), (False, True))

# Users. The client logs in and no more: who there is, its stubs have to say.
stub = rpc.AuthStub(first.channel)
for name in ["root", "anna"]:
    stub.UserAdd(rpc.AuthUserAddRequest(name=name, password=name + "pw"))
stub.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
stub.RoleAdd(rpc.AuthRoleAddRequest(name="py"))
perm = Permission(permType=Permission.READWRITE, key=b"py/", range_end=b"py0")
stub.RoleGrantPermission(rpc.AuthRoleGrantPermissionRequest(name="py", perm=perm))
stub.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="anna", role="py"))
stub.AuthEnable(rpc.AuthEnableRequest())


def refusal(call):
    """How a call is refused, in gRPC's words: the client has none of its own for these."""
    try:
        return call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    except etcd3.exceptions.Etcd3Exception as error:
        return type(error).__name__


def user(place, name, password):
    host, port = endpoints()[place]
    client = etcd3.client(host=host, port=port, timeout=10, user=name, password=password)
    # It sends the token twice, and without TLS gRPC refuses the second way.
    client.call_credentials = client.watcher._credentials = None
    return client


wrong = ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password")
same("A wrong password is refused.", refusal(lambda: user(0, "anna", "wrong")), wrong)
same("So is an unknown user.", refusal(lambda: user(1, "nobody", "annapw")), wrong)
anna, root = user(1, "anna", "annapw"), user(2, "root", "rootpw")
empty = ("INVALID_ARGUMENT", "etcdserver: user name is empty")
same("Who says nothing may do nothing.", refusal(lambda: first.put("py/a", "1")), empty)
anna.put("py/a", "1")
same("A user reads what it may.", anna.get("py/a")[0], b"1")
denied = ("PERMISSION_DENIED", "etcdserver: permission denied")
same("It does not read what it may not.", refusal(lambda: anna.get("other")), denied)
same("Nor does it write that.", refusal(lambda: anna.put("other", "1")), denied)
mixed = lambda: anna.transaction(compare=[], success=[op.put("py/a", "2")], failure=[op.get("other")])
same("Nor in the half of a transaction that is not taken.", refusal(mixed), denied)
events, cancel = anna.watch_prefix("py/")
root.put("py/b", "by root")
same("It watches what it may.", next(events).value, b"by root")
cancel()
lease = anna.lease(60)
root.put("other", "1", lease=lease)
same("It ends no lease that has others' keys.", refusal(lease.revoke), denied)
with_token = root.metadata
rpc.AuthStub(root.channel).AuthDisable(rpc.AuthDisableRequest(), metadata=with_token)
same("Then nobody is asked any more.", first.put("py/a", "3") is not None, True)

# The leader dies. This client knows one node, so the others are asked.
dead = ask("kill leader")
left = [client for client, (host, port) in zip(clients, endpoints()) if f"{host}:{port}" != dead]
eventually("The others serve without their leader.", lambda: left[0].put("py/after", "1") is not None, True)
same("A lock outlives the leader.", left[1].lock("gate").acquire(timeout=1), False)
