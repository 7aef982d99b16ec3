"""Who answers the same statements over the same rows."""

import time

from bench import contenders, process, server
from bench.shards import data


class Parallel(contenders.Direct):
    """The plain server, each statement with two workers beside its process."""

    parameters = {"options": "-c max_parallel_workers_per_gather=2"}

    def why_not(self, _cell):
        return "the plain server has no use for parallel workers in look-ups by key"


class Coordinator(contenders.Direct):
    """PostgreSQL with foreign tables for the shards' rows. Its CPU is that of its sessions that have ended."""

    database = data.COORDINATOR

    def __init__(self, coordinator):
        super().__init__(coordinator, "fdw", "postgres_fdw")
        self.postmaster = server.postmaster(coordinator)

    def cpu(self):
        time.sleep(0.3)  # sessions end a little after their clients
        return process.cpu_of_the_dead(self.postmaster)


def make(directory, postgres_server, coordinator, certificate, pool_size):
    return [
        contenders.Direct(postgres_server, "plain", "one server"),
        Parallel(postgres_server, "parallel", "one server, 2 workers"),
        Coordinator(coordinator),
        contenders.TesseraContender("tessera", "Tessera", directory, postgres_server, certificate, pool_size, data.shards(), keys=data.KEYS),
    ]
