"""A server that hangs: all its processes are stopped, and go on at the end."""

import os
import signal


def processes_of(server):
    """The server's first process, then its children."""
    parent = (server.data / "postmaster.pid").read_text().split()[0]
    children = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()[1] == parent:
                children.append(int(entry))
        except OSError:
            pass  # it has ended meanwhile
    return [int(parent), *children]


class Stopped:
    """with Stopped(server): …"""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        self.processes = processes_of(self.server)
        self._signal(self.processes, signal.SIGSTOP)

    def __exit__(self, *_):
        self._signal(reversed(self.processes), signal.SIGCONT)

    @staticmethod
    def _signal(processes, number):
        for process in processes:
            try:
                os.kill(process, number)
            except ProcessLookupError:
                pass  # a child that has ended meanwhile
