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

    def __add__(self, other):
        return Cpu(*map(sum, zip(self, other)))


def _ticks(pid, first):
    """User and system time, two neighbours among the fields of /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[first]) * TICK_US, int(fields[first + 1]) * TICK_US


def cpu(pid):
    """All threads together. The total is the scheduler's (nanoseconds) where it is kept, else the ticks of /proc/PID/stat."""
    user, system = _ticks(pid, 11)
    try:
        threads = Path(f"/proc/{pid}/task").iterdir()
        total = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1000
    except FileNotFoundError:
        total = user + system
    return Cpu(total, user, system)


def cpu_of_the_dead(pid):
    """What those of its children used that have ended and were waited for."""
    user, system = _ticks(pid, 13)
    return Cpu(user + system, user, system)


def spent(used, units):
    """CPU per unit of work: total, and how it splits. Ticks are coarse, so they give only the proportion."""
    ticks = used.user + used.system
    total = used.total / units
    user = total * used.user / ticks if ticks else 0.0
    return {"cpu_us": total, "cpu_user_us": user, "cpu_system_us": total - user}


def spent_ms(used, units=1):
    return {key.removesuffix("us") + "ms": value / 1000 for key, value in spent(used, units).items()}


def _memory(pid, field):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0  # a zombie has no memory


def resident_bytes(pid):
    return _memory(pid, "VmRSS")


def peak_bytes(pid):
    """The most that was resident since `forget_peak`, or ever."""
    return _memory(pid, "VmHWM")


def forget_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def pin(pid, cores):
    """All its threads; children that it makes later inherit."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)
