"""One pgbench run: SELECT of one account by its key, for some seconds."""

import math
import os
import re
import subprocess
import tempfile
from pathlib import Path

from bench import BenchError, process, server

# pgbench -S, but as a file: for its built-in scripts pgbench asks for tables that the shards do not have.
SCRIPT = """\\set aid random(1, :rows)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
"""
# An identifier of its own in each statement.
NEW_SHAPES = """\\set aid random(1, :rows)
\\set shape random(1, 1000000000)
SELECT abalance AS shape_:shape FROM pgbench_accounts WHERE aid = :aid;
"""


def measure(contender, cell, seconds, cores=None):
    """Runs the cell; a dictionary with tps, latencies in µs and, if there is a proxy, its CPU per statement and its RSS."""
    with tempfile.TemporaryDirectory(prefix="tessera-bench-") as work:
        script = Path(work) / "select.sql"
        script.write_text(NEW_SHAPES if cell.new_shapes else SCRIPT)
        before = contender.cpu()
        output = _run(contender, cell, seconds, script, work, cores)
        statements, tps = _read(output)
        result = {"statements": statements, "tps": tps, **_latencies(Path(work))}
        if before:
            result.update(process.spent(contender.cpu() - before, statements))
        if contender.pid:
            result["rss"] = process.resident_bytes(contender.pid)
        return result


def _run(contender, cell, seconds, script, work, cores):
    # Latencies of a sample only: writing them costs the cores that everyone shares.
    sampling = 1.0 if cell.reconnect else 0.2
    command = ["pgbench", "-n", "-f", script, "-D", f"rows={cell.rows}", "-M", cell.protocol, "-c", cell.clients,
               "-j", min(2, cell.clients), "-T", seconds, "--log", "--log-prefix", f"{work}/log", "--sampling-rate", sampling,
               "-h", contender.host, "-p", contender.port, "-U", cell.user, *(["-C"] if cell.reconnect else []), contender.database]
    if cores:
        command = ["taskset", "-c", ",".join(map(str, cores)), *command]
    environment = {**os.environ, "PGPASSWORD": server.PASSWORD, "PGCONNECT_TIMEOUT": "10",
                   "PGSSLMODE": "require" if cell.tls else "disable"}
    try:
        done = subprocess.run([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        raise BenchError(f"pgbench does not end ({cell.name})") from None
    if done.returncode != 0:
        raise BenchError(f"pgbench, {cell.name}: {_first_complaint(done.stderr)}")
    return done.stdout


def _first_complaint(text):
    complaints = [line for line in text.splitlines() if "error" in line.lower() or "FATAL" in line]
    return (complaints or text.splitlines() or ["failed without a word"])[0][:300]


def _read(output):
    """(statements, statements per second) from pgbench's summary."""
    processed = re.search(r"^number of transactions actually processed: (\d+)", output, re.M)
    failed = re.search(r"^number of failed transactions: (\d+)", output, re.M)
    rate = re.search(r"^tps = ([0-9.]+) ", output, re.M)
    if not (processed and failed and rate):
        raise BenchError(f"pgbench's summary is not understood:\n{output}")
    if int(processed[1]) == 0 or int(failed[1]) > 0:
        raise BenchError(f"pgbench finished {processed[1]} statements, {failed[1]} failed")
    return int(processed[1]), float(rate[1])


def _latencies(work):
    """Log lines: client, transaction, µs, script, seconds, µs of the second."""
    times = sorted(int(line.split()[2]) for log in work.glob("log.*") for line in log.read_text().splitlines())
    if not times:
        raise BenchError("pgbench logged no latencies")
    return {f"p{percent}_us": percentile(times, percent) for percent in (50, 95, 99)}


def percentile(ordered, percent):
    """Nearest rank."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
