#!/usr/bin/env python3
"""What ten, a hundred, ten thousand times the load would take: `python3 bench/scale.py [--costs name=value,…]`.

Sums, from what one command, signal and read cost where they were measured (docs/benchmarks.md), and three small
simulations of what cannot be run on one machine: a writer whose log is far away, many replicas behind one balancer,
and caches that many writes make old. Prints the tables of docs/scale.md. Needs nothing but Python.
"""

import argparse
import heapq
import itertools
import math
import random

# Processor time in microseconds, unless it says otherwise: what `headwater-bench growth` found at a million accounts.
COSTS = {
    "command": 156.0,  # the command-service, one registration of 64 at once
    "command_log": 69.0,  # NATS, the same, with all that it delivers
    "fold": 19.0,  # the projector, one event into all four views
    "fold_postgres": 47.0,
    "signal": 7.2,  # a query-service, for one registration that it is told of
    "signal_bytes": 237.0,
    "hit": 23.0,  # a query-service, one row from its cache (`telemetry`, on the same machine)
    "miss": 48.0,  # the same without a cache
    "miss_postgres": 24.0,
    "log_bytes": 426.0,  # an event on the log's disk, not compressed (at 10,000 accounts)
    "view_bytes": 385.0,  # the same in Postgres
}

# Registrations a second that `headwater-bench commands` found, by the number of connections.
REGISTERED = {1: "2,359", 16: "16,642", 128: "35,134", 512: "34,989"}

# A machine, as the one of the measurements, and how full it may be; each part has its own.
CORES = 2
FULL = 0.6
GIGABIT = 1e9 / 8


def machines(cost_us, a_second):
    return math.ceil(a_second * cost_us / (CORES * FULL * 1e6))


# --- The load --------------------------------------------------------------------------------------------------------

# One times: a busy site of one machine.
COMMANDS = 100
READS = 2_000
STEPS = [1, 10, 100, 10_000]


def hit_rate(reads, writes):
    """Of a replica that is asked `reads` times a second, where rows are written as they are read: a row is in the cache
    if it was read since it was last written."""
    return reads / (reads + writes)


def replicas(reads, writes, told, costs):
    """How many replicas of a partition answer so many reads, if rows are written so often and each replica is told of
    `told` events a second; and the part of the reads that their caches answer."""
    listening = told * costs["signal"] / 1e6
    room = CORES * FULL - listening
    if room <= 0:
        return None, 0.0
    count = 1
    while True:
        each = reads / count
        hits = hit_rate(each, writes)
        cost = (hits * costs["hit"] + (1 - hits) * costs["miss"]) / 1e6
        if each * cost <= room:
            return count, hits
        count += 1


def sums(costs):
    """For each step: the machines of each kind, with as many logs as it takes for each to have a writer, a NATS and a
    Postgres that are not too full."""
    rows = []
    for step in STEPS:
        commands, reads = COMMANDS * step, READS * step
        slowest = max(costs[part] for part in ("command", "command_log", "fold", "fold_postgres"))
        partitions = machines(slowest, commands)
        each_commands, each_reads = commands / partitions, reads / partitions
        whole, _ = replicas(reads, commands, commands, costs)
        count, hits = replicas(each_reads, each_commands, each_commands, costs)
        misses = each_reads * (1 - hits)
        # The primary takes what is written and reads what it has room for; standbys read the rest.
        each_second = each_commands * costs["fold_postgres"] + misses * costs["miss_postgres"]
        postgres = machines(1.0, each_second)
        signals = each_commands * costs["signal_bytes"]
        rows.append(
            [
                f"{step:,}×",
                f"{commands:,}",
                f"{reads:,}",
                f"{partitions:,}",
                f"{postgres * partitions:,}",
                f"{count * partitions:,}",
                "no number" if whole is None else f"{whole:,}",
                f"{hits:.0%}",
                f"{signals * count / GIGABIT:.2f}",
                f"{commands * costs['log_bytes'] * 86_400 / 1e9:,.0f}",
            ]
        )
    return rows


# --- A writer whose log is far away -----------------------------------------------------------------------------------


def writer(rate, frame_us, command_us, frame_max=1000, commands=60_000, seed=1):
    """Commands that come by chance, `rate` a second, to a writer with one frame under way: quantiles of how long they
    wait for their answer, in milliseconds. A frame takes `frame_us`, and `command_us` for each command in it."""
    chance = random.Random(seed)
    arrivals, now = [], 0.0
    for _ in range(commands):
        now += chance.expovariate(rate)
        arrivals.append(now)
    latencies, free, first = [], 0.0, 0
    while first < commands:
        start = max(free, arrivals[first])
        last = first
        while last < commands and arrivals[last] <= start and last - first < frame_max:
            last += 1
        free = start + (frame_us + command_us * (last - first)) / 1e6
        latencies.extend(free - arrival for arrival in arrivals[first:last])
        first = last
    # What a queue that never empties does to the last of them is what is to be seen.
    latencies = sorted(latencies[commands // 5 :])
    return [latencies[int(len(latencies) * share)] * 1e3 for share in (0.5, 0.99)]


def closed_loop(clients, frame_us, command_us):
    """The same writer, with so many clients that send again once they are answered: commands a second. Two halves take
    turns: one is in the frame, the other waits for it."""
    half = max(clients / 2, 1)
    return half * 1e6 / (frame_us + command_us * half)


# --- Many replicas behind one balancer --------------------------------------------------------------------------------


def balancer(count, load, choose, slow=1.0, requests=200_000, seed=1):
    """`requests` that come by chance to `count` replicas, so many that `load` of all of them is busy; one replica takes
    `slow` times as long. The 99th percentile, times the mean of one answer."""
    chance = random.Random(seed)
    rate = load * (count - 1 + 1 / slow)
    free = [0.0] * count
    pending = [[] for _ in range(count)]
    times, now = [], 0.0
    for number in range(requests):
        now += chance.expovariate(rate)
        index = choose(chance, number, now, pending)
        takes = chance.expovariate(1.0) * (slow if index == 0 else 1.0)
        free[index] = max(free[index], now) + takes
        heapq.heappush(pending[index], free[index])
        times.append(free[index] - now)
    times.sort()
    return times[int(len(times) * 0.99)]


def under_way(queue, now):
    while queue and queue[0] <= now:
        heapq.heappop(queue)
    return len(queue)


def round_robin(_, number, now, pending):
    return number % len(pending)


def two_choices(chance, _, now, pending):
    """As Envoy's least request has it."""
    one, other = chance.randrange(len(pending)), chance.randrange(len(pending))
    return one if under_way(pending[one], now) <= under_way(pending[other], now) else other


# --- Caches that writes make old --------------------------------------------------------------------------------------


def cache(reads, writes, keys=10_000, requests=200_000, seed=1):
    """Of one replica's reads, by Zipf's law, the part that its cache answers while the same rows are written so often,
    wherever."""
    chance = random.Random(seed)
    shares = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    population = range(keys)
    is_write = writes / (reads + writes)
    fresh, hits, asked = set(), 0, 0
    for number, key in enumerate(chance.choices(population, cum_weights=shares, k=requests)):
        if chance.random() < is_write:
            fresh.discard(key)
            continue
        # The first half fills it.
        if number >= requests // 2:
            asked += 1
            hits += key in fresh
        fresh.add(key)
    return hits / asked


def table(title, header, rows):
    print(f"\n{title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---:|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--costs", default="", help="other costs than the measured: " + ", ".join(COSTS))
    costs = dict(COSTS)
    for given in filter(None, parser.parse_args().costs.split(",")):
        name, _, value = given.partition("=")
        try:
            if name not in costs:
                parser.error(f"there is no cost `{name}`; there are {', '.join(costs)}")
            costs[name] = float(value)
        except ValueError:
            parser.error(f"`{given}` is not name=number")
    header = ["load", "commands/s", "reads/s", "logs", "Postgres", "query-services", "the same over one log"]
    header += ["from the cache", "signals, Gbit/s a log", "log, GB a day"]
    table("What it takes", header, sums(costs))

    frames = [("here", 290), ("three nodes, one place", 670), ("three places, 1 ms apart", 1_500), ("10 ms apart", 10_500)]
    rows = []
    for where, frame_us in frames:
        for rate in [100, 1_000, 10_000, 20_000]:
            p50, p99 = writer(rate, frame_us, 25.0)
            rows.append([where, f"{frame_us / 1e3:.2f}", f"{rate:,}", f"{p50:.1f}", f"{p99:.1f}"])
    table("A writer", ["the log is", "ms a frame", "commands/s", "p50 ms", "p99 ms"], rows)

    rows = [[clients, f"{closed_loop(clients, 290, 25.0):,.0f}", found] for clients, found in REGISTERED.items()]
    table("The same, where it was measured", ["connections", "commands/s by the sum", "measured"], rows)

    def told(p99):
        return f"{p99:.1f}" if p99 < 1_000 else "without end"

    rows = []
    for count in [2, 8, 64, 400]:
        kinds = [(choose, slow) for slow in (1.0, 5.0) for choose in (round_robin, two_choices)]
        rows.append([count] + [told(balancer(count, 0.7, choose, slow)) for choose, slow in kinds])
    header = ["replicas", "in turn", "the better of two", "in turn, one slow", "the better of two, one slow"]
    table("A balancer at 70 %: p99, times the mean of one answer", header, rows)

    rows = []
    for share in [0.01, 0.1, 0.5, 1, 5, 20]:
        rows.append([share, f"{cache(1, share):.0%}", f"{hit_rate(1, share):.0%}"])
    table("A replica's cache", ["writes a read", "from the cache, simulated", "by the sum"], rows)


if __name__ == "__main__":
    main()
