#!/usr/bin/env python3
"""Compares a three-node cluster of vlot with one of etcd on this machine, over loopback, with `vlot bench`.

  bench/compare.py --vlot target/release/vlot --etcd PATH/TO/etcd [--rounds 3] [--seconds 5] [--clients 1,64,1000] [--nodes 3]
                   [--tls] [--auth] [--html FILE]

With --tls clients speak TLS, with certificates that vlot makes, and new handshakes a second are measured too, by `openssl s_time`.
With --auth users count, with simple tokens and hashes of the default cost: every row is measured as a user who may read and write
everything, and then how long reads take while nobody logs in, and while 1,000 logins a second arrive (none waits for another).

With --html the same is drawn too: a page in FILE, and its first picture beside it, in FILE's name with .svg.

Each round starts a fresh cluster of one, measures every row, stops it, and does the same with the other: A B A B. The
table has medians over the rounds and the ratio of the medians. CPU is that of the three servers together.
"""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import pictures

NAMES = ("vlot", "etcd")
ROOT, USER = "root:of-the-bench", "bench:of-the-bench"
# What is read while others log in, and how they do.
READS = ("range --consistency=l", 64)
LOGINS = ["--users", "100", "--prefix", "guest-", "--users-password", "of-the-bench"]
LOGINS_PER_SECOND = 1000
# Seconds that a command about users may take, of which each hash is a good part of one.
SETUP_SECONDS = 300


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    def __init__(self, command, nodes, tls):
        self.dir = tempfile.mkdtemp(prefix="vlot-bench-", dir=os.environ.get("BENCH_DIR"))
        ports = free_ports(2 * nodes)
        clients, peers = ports[:nodes], ports[nodes:]
        url = "http://127.0.0.1:{}".format
        initial = ",".join(f"n{i}={url(port)}" for i, port in enumerate(peers))
        client_url = "https://127.0.0.1:{}".format if tls else url
        self.address = f"127.0.0.1:{clients[0]}"
        self.endpoints = ",".join(client_url(port) for port in clients)
        self.tls = ["--cacert", f"{tls}/ca.crt"] if tls else []
        self.user = None
        shown = ["--cert-file", f"{tls}/server.crt", "--key-file", f"{tls}/server.key"] if tls else []
        self.processes = []
        for i in range(nodes):
            flags = [
                "--name", f"n{i}", "--data-dir", f"{self.dir}/n{i}",
                "--listen-client-urls", client_url(clients[i]), "--advertise-client-urls", client_url(clients[i]),
                "--listen-peer-urls", url(peers[i]), "--initial-advertise-peer-urls", url(peers[i]),
                "--initial-cluster", initial, "--initial-cluster-token", "bench", "--log-level", "warn", *shown,
            ]
            log = open(f"{self.dir}/n{i}.log", "w")
            self.processes.append(subprocess.Popen(command + flags, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        self.pids = ",".join(str(process.pid) for process in self.processes)

    def wait(self, vlot):
        for _ in range(100):
            done = subprocess.run([vlot, "--endpoints", self.endpoints, *self.tls, "put", "ready", "1"], capture_output=True)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        sys.exit(f"the cluster in {self.dir} does not serve")

    def enable_auth(self, vlot):
        """From here on users count, and all is measured as one who may do everything to every key."""
        name = USER.split(":")[0]
        for words in (
            ["user", "add", ROOT], ["user", "grant-role", "root", "root"],
            ["user", "add", USER], ["role", "add", "all"], ["role", "grant-permission", "all", "readwrite", "", "--prefix"],
            ["user", "grant-role", name, "all"], ["auth", "enable"],
        ):
            run([vlot, *words, "--endpoints", self.endpoints, *self.tls], SETUP_SECONDS)
        self.user = USER

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def run(command, seconds):
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def bench(vlot, cluster, workload, clients, seconds, user=None):
    """The command that measures a workload, such as `range --consistency=l`."""
    command = [vlot, "bench", *workload.split(), "--endpoints", cluster.endpoints, *cluster.tls, "--clients", str(clients)]
    command += ["--conns", str(min(clients, 9)), "--seconds", str(seconds), "--pids", cluster.pids, "--json"]
    user = user or cluster.user
    return command + (["--user", user] if user else [])


def measure(vlot, cluster, workload, clients, seconds):
    return json.loads(run(bench(vlot, cluster, workload, clients, seconds), seconds + 60))


def measure_logins(vlot, cluster, seconds):
    """Reads while nobody logs in, reads while many do, and those logins."""
    create = bench(vlot, cluster, "login --create", clients=1, seconds=1, user=ROOT)
    run([*create, *LOGINS], SETUP_SECONDS)
    quiet = measure(vlot, cluster, *READS, seconds)
    # Who reads has logged in before the others come, and warms up until they are there.
    reading = subprocess.Popen([*bench(vlot, cluster, *READS, seconds), "--warmup", "4"], stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        # As many clients as logins a second: one that takes a second holds up no other. That not one was answered, which fails, is
        # a result too.
        logins = bench(vlot, cluster, f"login --rate={LOGINS_PER_SECOND}", LOGINS_PER_SECOND, seconds + 3)
        logins = subprocess.run([*logins, *LOGINS], stdout=subprocess.PIPE, text=True, timeout=seconds + 60).stdout
        busy, _ = reading.communicate(timeout=seconds + 60)
    finally:
        reading.kill()
    return quiet, json.loads(busy), json.loads(logins)


def handshakes(cluster, tls, seconds, version):
    """New handshakes a second, one after the other."""
    command = ["openssl", "s_time", "-connect", cluster.address, "-CAfile", f"{tls}/ca.crt", "-new", "-time", str(seconds), version]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60).stdout
    real = re.search(r"(\d+) connections in (\d+) real seconds", said)
    return int(real[1]) / int(real[2]) if real else 0.0


def certificates(vlot):
    directory = tempfile.mkdtemp(prefix="vlot-bench-tls-", dir=os.environ.get("BENCH_DIR"))
    for arguments in (["ca"], ["server", "--host", "127.0.0.1"]):
        subprocess.run([vlot, "cert", *arguments, "--dir", directory], check=True, stdout=subprocess.DEVNULL)
    return directory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vlot", required=True)
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--clients", default="1,64,1000")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--auth", action="store_true")
    parser.add_argument("--html")
    args = parser.parse_args()
    counts = [int(count) for count in args.clients.split(",")]
    rows = [("put", count) for count in counts]
    reads = [count for count in counts if count > 1]
    rows += [(f"range --consistency={level}", count) for level in "ls" for count in reads]
    versions = ("-tls1_3", "-tls1_2") if args.tls else ()
    found = {}
    tls = certificates(args.vlot) if args.tls else None
    for _ in range(args.rounds):
        for name, command in zip(NAMES, ([args.vlot, "server"], [args.etcd])):
            cluster = Cluster(command, args.nodes, tls)
            try:
                cluster.wait(args.vlot)
                if args.auth:
                    cluster.enable_auth(args.vlot)
                for row in rows:
                    found.setdefault((name, row), []).append(measure(args.vlot, cluster, *row, args.seconds))
                for version in versions:
                    found.setdefault((name, version), []).append(handshakes(cluster, tls, args.seconds, version))
                if args.auth:
                    found.setdefault((name, "logins"), []).append(measure_logins(args.vlot, cluster, args.seconds))
            finally:
                cluster.stop()
    if tls:
        shutil.rmtree(tls, ignore_errors=True)
    print_rows(found, rows)
    if args.html:
        draw(args.html, found, rows, args.nodes)
    for version in versions:
        rate = [statistics.median(found[name, version]) for name in NAMES]
        print(f"\nhandshakes a second, {version[1:]}, one after the other: vlot {rate[0]:,.0f}, etcd {rate[1]:,.0f}")
    if args.auth:
        print_logins(found)


def print_rows(found, rows):
    print("| workload, clients | vlot op/s | etcd op/s | ratio | vlot p50 / p99 ms | etcd p50 / p99 ms | vlot CPU us/op | etcd CPU us/op | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        rate, cpu = ([median(found[name, row], key) for name in NAMES] for key in ("rate", "cpu"))
        times = [shown_times(found[name, row]) for name in NAMES]
        print(f"| {pictures.label(row)} | {rate[0]:,.0f} | {rate[1]:,.0f} | {rate[0] / rate[1]:.1f} | {times[0]} | {times[1]} "
              f"| {cpu[0]:.1f} | {cpu[1]:.1f} | {cpu[0] / cpu[1]:.2f} |")


def draw(path, found, rows, nodes):
    title = f"vlot beside etcd, {nodes} node{'s' if nodes > 1 else ''}, {time.strftime('%Y-%m-%d')}"
    command = " ".join(["bench/compare.py", *sys.argv[1:]])
    page, overview = pictures.page(title, rows, lambda name, row: found[name, row], command)
    with open(path, "w") as file:
        file.write(page)
    with open(os.path.splitext(path)[0] + ".svg", "w") as file:
        file.write(overview + "\n")


def print_logins(found):
    print(f"\n| range, linearizable, {READS[1]} | vlot op/s | etcd op/s | vlot p50 / p99 ms | etcd p50 / p99 ms |\n|---|---|---|---|---|")
    runs = {name: list(zip(*found[name, "logins"])) for name in NAMES}
    for place, label in enumerate(["nobody logs in", f"{LOGINS_PER_SECOND:,} logins a second arrive"]):
        rate = [median(runs[name][place], "rate") for name in NAMES]
        times = [shown_times(runs[name][place]) for name in NAMES]
        print(f"| {label} | {rate[0]:,.0f} | {rate[1]:,.0f} | {times[0]} | {times[1]} |")
    print()
    for name in NAMES:
        logins = runs[name][2]
        failed = statistics.median(each["failures"] / each["seconds"] for each in logins)
        print(f"{name}: {median(logins, 'rate'):,.0f} logins answered a second, {shown_times(logins)} ms (p50 / p99, from when each was due); "
              f"{failed:,.0f} a second refused or given up")


def median(results, key):
    return statistics.median(KEYS[key](each) for each in results)


def shown_times(results):
    if not median(results, "rate"):
        return "none"
    return "{:.2f} / {:.1f}".format(median(results, "p50"), median(results, "p99"))


KEYS = {
    "rate": lambda r: r["operations_per_second"],
    "p50": lambda r: r["latency_us"]["p50"] / 1000,
    "p99": lambda r: r["latency_us"]["p99"] / 1000,
    "cpu": lambda r: r["server_cpu_us_per_operation"],
}

if __name__ == "__main__":
    main()
