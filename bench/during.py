#!/usr/bin/env python3
"""How long puts take while the server is busy with something else, beside how long they take when it is not.

  bench/during.py --vlot target/release/vlot --etcd PATH/TO/etcd --etcdctl PATH/TO/etcdctl [--rounds 3]

Three nodes on this machine, over loopback, filled with KEYS keys of 256 bytes, each written twice. Puts come at a fixed rate, and the
latency of each counts from when it was due. Each is measured in a window of its own: quiet; a compaction (physical); the
defragmentation of each member (vlot answers at once and does it afterwards, so that it is all at the same time); snapshots of each and
reads of all keys, again and again. Rounds are interleaved, the table has medians.
"""
import argparse
import json
import os
import statistics
import subprocess
import threading

from compare import Cluster


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vlot", required=True)
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--etcdctl", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--rate", type=int, default=1_500)
    args = parser.parse_args()
    found = {}
    for _ in range(args.rounds):
        for name, command in (("vlot", [args.vlot, "server"]), ("etcd", [args.etcd, "--quota-backend-bytes", str(8 << 30)])):
            cluster = Cluster(command, nodes=3, tls=None)
            try:
                cluster.wait(args.vlot)
                measure(args, name, cluster, found)
            finally:
                cluster.stop()
    acts = [act for name, act in found if name == "vlot"]
    print("| puts during | vlot p50 / p99 ms | over quiet | etcd p50 / p99 ms | over quiet |\n|---|---|---|---|---|")
    for act in acts:
        cells = []
        for name in ("vlot", "etcd"):
            p50, p99 = (statistics.median(each[place] for each in found[name, act]) for place in (0, 1))
            quiet = statistics.median(each[1] for each in found[name, "nothing else"])
            cells.append(f"{p50 / 1000:.2f} / {p99 / 1000:.1f} | {p99 / quiet:.2f}")
        print(f"| {act} | {' | '.join(cells)} |")


def measure(args, name, cluster, found):
    for _ in range(2):
        bench(args, cluster, ["--total", str(args.keys), "--sequential", "--clients", "64", "--conns", "9"])

    def ctl(*words, endpoints=cluster.endpoints):
        # What the client needs to show what it got is not to be measured.
        command = ["nice", "-n", "19", args.etcdctl, "--endpoints", endpoints, "--command-timeout", "60s", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def compact():
        revision = json.loads(ctl("get", "none", "-w", "json"))["header"]["revision"]
        ctl("compaction", str(revision), "--physical")

    def snapshots():
        for endpoint in cluster.endpoints.split(","):
            # In memory: what a client writes to the servers' disk is not to be measured either.
            path = f"/dev/shm/vlot-bench-{os.getpid()}"
            ctl("snapshot", "save", path, endpoints=endpoint)
            os.remove(path)

    def reads():
        subprocess.run(["nice", "-n", "19", args.vlot, "get", "", "--prefix", "--print-value-only", "--endpoints",
                        cluster.endpoints.split(",")[0]], stdout=subprocess.DEVNULL, check=True)

    acts = {
        "nothing else": lambda: None,
        "reads of all keys": reads,
        "snapshots of all members": snapshots,
        "a compaction": compact,
        "a defragmentation of all members": lambda: ctl("defrag", "--cluster"),
    }
    for act, do in acts.items():
        once = act.startswith("a ") or act == "nothing else"
        over = threading.Event()

        def busy():
            while not over.wait(0.2):
                do()
                if once:
                    return

        thread = threading.Thread(target=busy)
        timer = threading.Timer(1.0, thread.start)
        timer.start()
        rate = ["--rate", str(args.rate), "--seconds", str(args.seconds), "--clients", "256", "--conns", "9", "--warmup", "1"]
        result = bench(args, cluster, rate)
        over.set()
        timer.join()
        thread.join()
        latency = result["latency_us"]
        found.setdefault((name, act), []).append((latency["p50"], latency["p99"]))


def bench(args, cluster, words):
    command = [args.vlot, "bench", "put", "--endpoints", cluster.endpoints, "--key-space", str(args.keys), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
