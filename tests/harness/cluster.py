"""PostgreSQL servers for shell scripts; see scripts/postgres-cluster.sh.

cluster.py --place .demo start s0=5501 s1 s0r:s0      starts (and makes) servers; `name=port`, `name:primary` a replica
cluster.py --place .demo show                          name, port, socket directory and state of each server
cluster.py --place .demo stop | destroy                stops all servers / and removes them
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import places, postgres  # noqa: E402
from harness.places import SetupError  # noqa: E402

SERVER = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(?::(?P<primary>[a-z][a-z0-9_]*))?(?:=(?P<port>[0-9]+))?")


def start(root, specifications):
    servers = {}
    for text in specifications:
        match = SERVER.fullmatch(text)
        if not match:
            raise SetupError(f"'{text}' is not name, name=port, name:primary or name:primary=port")
        primary = None
        if match["primary"]:
            primary = servers.get(match["primary"]) or postgres.PostgresServer(root, match["primary"])
        port = int(match["port"]) if match["port"] else None
        server = postgres.PostgresServer(root, match["name"], port=port, replica_of=primary)
        servers[server.name] = server.start()
        print(f"{server.name} {server.port} {server.directory}")


def show(root):
    for directory in sorted((root / "servers").glob("*/data")):
        server = postgres.PostgresServer(root, directory.parent.name)
        print(f"{server.name} {server.port} {server.directory} {'running' if server.is_running() else 'stopped'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", required=True, help="folder of the checkout: .demo, .test or .bench")
    parser.add_argument("command", choices=["start", "show", "stop", "destroy", "where", "certificate"])
    parser.add_argument("servers", nargs="*")
    arguments = parser.parse_args()
    root = places.data_root(arguments.place)
    if arguments.command == "start":
        start(root, arguments.servers)
    elif arguments.command == "show":
        show(root)
    elif arguments.command == "stop":
        postgres.stop_all(root)
    elif arguments.command == "destroy":
        postgres.remove_all(root)
    elif arguments.command == "certificate":  # CA, certificate, key for the proxy
        ca = postgres.CertificateAuthority(root / "tls")
        issued = ca.issue("tessera")
        print(ca.certificate, issued.certificate, issued.private_key)
    else:
        print(root)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
