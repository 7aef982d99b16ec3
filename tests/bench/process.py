"""CPU time and memory of a process, from /proc."""

import os
from pathlib import Path
from typing import NamedTuple

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


class Cpu(NamedTuple):
    """Microseconds since the process began."""
    total: float
    user: float
    system: float

    def __sub__(self, earlier):
        return Cpu(*(now - before for now, before in zip(self, earlier)))


def cpu(pid):
    """All threads together. The total is the scheduler's (nanoseconds) where it is kept, else the ticks of /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    user, system = int(fields[11]) * TICK_US, int(fields[12]) * TICK_US
    try:
        threads = Path(f"/proc/{pid}/task").iterdir()
        total = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1000
    except FileNotFoundError:
        total = user + system
    return Cpu(total, user, system)


def spent(pid, before, units):
    """CPU since `before`, per unit of work: total, and how it splits. Ticks are coarse, so they give only the proportion."""
    used = cpu(pid) - before
    ticks = used.user + used.system
    total = used.total / units
    user = total * used.user / ticks if ticks else 0.0
    return {"cpu_us": total, "cpu_user_us": user, "cpu_system_us": total - user}


def resident_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0  # a zombie has no memory


def pin(pid, cores):
    """All its threads; children that it makes later inherit."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)
