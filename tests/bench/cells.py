"""What is measured with pgbench: each cell is one way in which clients behave."""

from dataclasses import dataclass

from bench import server

PROTOCOLS = ["simple", "extended", "prepared"]
CLIENTS = [1, 8, 64]


@dataclass(frozen=True)
class Cell:
    name: str
    group: str
    protocol: str = "simple"
    clients: int = 8
    tls: bool = False
    reconnect: bool = False
    user: str = server.USER
    rows: int = server.ROWS
    new_shapes: bool = False  # no two statements are alike, so that no plan can be kept


def plural(clients):
    return f"{clients} client" if clients == 1 else f"{clients} clients"


CELLS = [
    *(Cell(f"{protocol}, {plural(clients)}", "select", protocol, clients) for protocol in PROTOCOLS for clients in CLIENTS),
    *(Cell(f"{protocol}, {plural(clients)}, TLS", "tls", protocol, clients, tls=True) for protocol in PROTOCOLS for clients in CLIENTS),
    Cell("a new shape each time, 8 clients", "shapes", new_shapes=True),
    Cell("reconnecting, 8 clients, SCRAM", "reconnect", reconnect=True),
    Cell("reconnecting, 8 clients, SCRAM, TLS", "reconnect", reconnect=True, tls=True),
    Cell("reconnecting, 8 clients, trust", "reconnect", reconnect=True, user=server.TRUSTED_USER),
]
WARM_UP = [Cell("warm-up", "warm-up", clients=64)]
TRACED = [Cell(f"{protocol}, {plural(clients)}", "syscalls", protocol, clients) for protocol in PROTOCOLS for clients in CLIENTS[1:]]
