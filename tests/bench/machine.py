"""What was measured on, and with which versions."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

from bench.contenders import program_version
from harness import places


def describe(contenders):
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    versions = {contender.product: contender.version for contender in contenders if hasattr(contender, "version")}
    versions["PostgreSQL"] = program_version(["pgbench", "--version"], r"PostgreSQL\) ([0-9.]+)")
    commit = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=10"], cwd=places.ROOT, capture_output=True, text=True)
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": int(memory[1]) // 1024,
        "kernel": platform.release(),
        "commit": commit.stdout.strip() or None,
        "versions": versions,
    }
