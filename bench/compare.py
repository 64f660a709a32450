#!/usr/bin/env python3
"""Compares a three-node cluster of vlot with one of etcd on this machine, over loopback, with `vlot bench`.

  bench/compare.py --vlot target/release/vlot --etcd PATH/TO/etcd [--rounds 3] [--seconds 5] [--clients 1,64,1000] [--nodes 3]
                   [--tls]

With --tls clients speak TLS, with certificates that vlot makes, and new handshakes a second are measured too, by `openssl s_time`.

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


def measure(vlot, cluster, workload, clients, seconds):
    words = workload.split()
    command = [vlot, "bench", words[0], *words[1:], "--endpoints", cluster.endpoints, *cluster.tls, "--clients", str(clients)]
    command += ["--conns", str(min(clients, 9)), "--seconds", str(seconds), "--pids", cluster.pids, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


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
    args = parser.parse_args()
    counts = [int(count) for count in args.clients.split(",")]
    rows = [("put", count) for count in counts]
    reads = [count for count in counts if count > 1]
    rows += [(f"range --consistency={level}", count) for level in "ls" for count in reads]
    found = {}
    shaken = {}
    tls = certificates(args.vlot) if args.tls else None
    for _ in range(args.rounds):
        for name, command in (("vlot", [args.vlot, "server"]), ("etcd", [args.etcd])):
            cluster = Cluster(command, args.nodes, tls)
            try:
                cluster.wait(args.vlot)
                for row in rows:
                    found.setdefault((name, row), []).append(measure(args.vlot, cluster, *row, args.seconds))
                for version in ("-tls1_3", "-tls1_2") if tls else ():
                    shaken.setdefault((name, version), []).append(handshakes(cluster, tls, args.seconds, version))
            finally:
                cluster.stop()
    print("| workload, clients | vlot op/s | etcd op/s | ratio | vlot p50 / p99 ms | etcd p50 / p99 ms | vlot CPU us/op | etcd CPU us/op | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        def median(name, key):
            return statistics.median(result_of(each, key) for each in found[name, row])
        rate = [median(name, "rate") for name in ("vlot", "etcd")]
        cpu = [median(name, "cpu") for name in ("vlot", "etcd")]
        times = ["{:.2f} / {:.1f}".format(median(name, "p50"), median(name, "p99")) for name in ("vlot", "etcd")]
        label = row[0].replace("range --consistency=l", "range, linearizable").replace("range --consistency=s", "range, serializable")
        print(f"| {label}, {row[1]} | {rate[0]:,.0f} | {rate[1]:,.0f} | {rate[0] / rate[1]:.1f} | {times[0]} | {times[1]} "
              f"| {cpu[0]:.1f} | {cpu[1]:.1f} | {cpu[0] / cpu[1]:.2f} |")


    for version in ("-tls1_3", "-tls1_2") if tls else ():
        rate = [statistics.median(shaken[name, version]) for name in ("vlot", "etcd")]
        print(f"\nhandshakes a second, {version[1:]}, one after the other: vlot {rate[0]:,.0f}, etcd {rate[1]:,.0f}")
    if tls:
        shutil.rmtree(tls, ignore_errors=True)


def result_of(result, key):
    return KEYS[key](result)


KEYS = {
    "rate": lambda r: r["operations_per_second"],
    "p50": lambda r: r["latency_us"]["p50"] / 1000,
    "p99": lambda r: r["latency_us"]["p99"] / 1000,
    "cpu": lambda r: r["server_cpu_us_per_operation"],
}

if __name__ == "__main__":
    main()
