"""System calls per statement, counted by strace while pgbench runs. It slows the proxy: nothing else is measured with it."""

import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from bench import BenchError, pgbench

SHOWN = 6
LINE = re.compile(r"^\s*[0-9.]+\s+[0-9.]+\s+\d+\s+(?P<calls>\d+)\s+(?:(?P<errors>\d+)\s+)?(?P<name>\w+)$")


def measure(contender, cell, seconds):
    with tempfile.TemporaryDirectory(prefix="tessera-bench-") as work:
        summary, messages = Path(work) / "summary", Path(work) / "messages"
        with messages.open("w") as log:
            tracer = subprocess.Popen(["strace", "-f", "-c", "-o", str(summary), "-p", str(contender.pid)], stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=log)
        try:
            _wait_until_attached(tracer, messages)
            statements = pgbench.measure(contender, cell, seconds)["statements"]
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
        return _read(summary.read_text(), statements)


def _wait_until_attached(tracer, messages):
    deadline = time.monotonic() + 5
    while "attached" not in messages.read_text():
        if tracer.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"strace: {messages.read_text().strip() or 'does not attach'}")
        time.sleep(0.02)


def _read(summary, statements):
    calls, failed = {}, 0
    for line in summary.splitlines():
        match = LINE.match(line)
        if match and match["name"] != "total":
            calls[match["name"]] = int(match["calls"])
            failed += int(match["errors"] or 0)
    if not calls:
        raise BenchError(f"strace counted nothing:\n{summary}")
    most = sorted(calls, key=calls.get, reverse=True)[:SHOWN]
    return {"per_statement": sum(calls.values()) / statements, "failed_per_statement": failed / statements,
            "by_name": {name: calls[name] / statements for name in most}}
