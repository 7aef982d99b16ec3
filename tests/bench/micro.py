"""Microbenchmarks: the program micro_bench (every *_bench.cpp beside the code), single steps of the hot path without sockets or servers.

The order of its benchmarks is random in each round, so that a machine that drifts drifts for all.
"""

import json
import os
import subprocess
from pathlib import Path

from bench import BenchError, machine
from harness import places

PROGRAM = "micro_bench"


def program():
    """It is built beside the binary that is measured."""
    binary = Path(os.environ.get("TESSERA_BINARY", places.ROOT / "build" / "release" / "tessera"))
    path = binary.parent / PROGRAM
    if not path.is_file():
        raise BenchError(f"{path} is missing: cmake -DTESSERA_BENCH=ON, then build the target {PROGRAM}")
    return path


def measure(seconds, rounds):
    """Every benchmark with its rounds; a round's figure is nanoseconds of CPU for one operation."""
    command = [str(program()), "--benchmark_format=json", f"--benchmark_min_time={seconds}", f"--benchmark_repetitions={rounds}",
               "--benchmark_enable_random_interleaving=true"]
    load = os.getloadavg()[0]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{PROGRAM} ends with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return {"machine": machine.describe([]), "settings": {"seconds": seconds, "rounds": rounds, "load": load},
            "benchmarks": read(json.loads(done.stdout)["benchmarks"])}


def read(runs):
    """In the order of their registration, whatever the order in which they ran. A name is <group>/<operation>, and what Google
    Benchmark adds to it."""
    found = {}
    for run in sorted((run for run in runs if run["run_type"] == "iteration"), key=lambda run: run["family_index"]):
        group, operation = run["name"].split("/")[:2]
        if run.get("error_occurred"):
            raise BenchError(f"{group}, {operation}: {run['error_message']}")
        one = found.setdefault((group, operation), {"group": group, "operation": operation, "rounds": []})
        figures = {"ns": 1e9 / run["items_per_second"]}
        if "bytes_per_second" in run:
            figures["us_per_mb"] = 1e12 / run["bytes_per_second"]
        one["rounds"].append(figures)
    return list(found.values())
