"""Where data may live, which user the servers run as, and which ports are free.

PostgreSQL refuses to run as root. When we are root, servers run as the package's user `postgres`, and their data must
stand where that user can go; when we are not, they run as ourselves.
"""

import hashlib
import os
import pwd
import random
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOCKET_PATH_LIMIT = 107  # sun_path of a Unix socket, less its final zero
_ANNOUNCED = set()


class SetupError(Exception):
    """Something that the user of the scripts can put right; the message says how."""


def server_user():
    """The account that database servers run as."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise SetupError("there is no user 'postgres': install postgresql-15 (scripts/install.sh test)") from None


def run_as_server(command, **options):
    """subprocess.run as the server's account; text mode, output captured, an error shows it."""
    command = as_server(command)
    options.setdefault("cwd", "/")
    done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, capture_output=True, **options)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)}\nexit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def as_server(command):
    command = [str(word) for word in command]
    if os.geteuid() != 0:
        return command
    return ["runuser", "-u", server_user().pw_name, "--", *command]


def _server_can_enter(directory):
    if os.geteuid() != 0:
        return True
    probe = subprocess.run(as_server(["test", "-x", str(directory)]), cwd="/", capture_output=True)
    return probe.returncode == 0


def data_root(name):
    """A directory for servers' data: ROOT/<name> if the servers' account can enter it, else a private one in /tmp."""
    inside = ROOT / name
    reason = None
    if not _server_can_enter(ROOT):
        reason = f"user '{server_user().pw_name}' cannot enter {ROOT}"
    elif len(str(inside / "servers" / "12345678" / ".s.PGSQL.12345")) > SOCKET_PATH_LIMIT:
        reason = f"the path of {ROOT} is too long for Unix sockets"
    if reason is None:
        return _own_directory(inside)
    digest = hashlib.sha256(str(ROOT).encode()).hexdigest()[:10]
    base = _own_directory(Path("/tmp") / f"tessera-{digest}")
    place = _own_directory(base / name.lstrip("."))
    if place not in _ANNOUNCED:
        _ANNOUNCED.add(place)
        print(f"note: database files live in {place}, because {reason}", file=sys.stderr)
    return place


def _own_directory(path):
    """Makes the directory, or accepts the one that is there if it is really ours (in /tmp anyone may have made it)."""
    try:
        path.mkdir(mode=0o755)
    except FileExistsError:
        pass
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), ROOT.stat().st_uid):
        raise SetupError(f"{path} is there already and belongs to someone else: remove it")
    return path


def make_server_directory(path, mode=0o700):
    """An empty directory that belongs to the servers' account."""
    path.mkdir(mode=mode, parents=True)
    account = server_user()
    if os.geteuid() == 0:
        os.chown(path, account.pw_uid, account.pw_gid)
    return path


def remove_tree(path):
    if path.exists():
        shutil.rmtree(path)


def port_is_free(port, host="127.0.0.1"):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(but=None):
    """A port that nobody listens on, other than `but` (which is somebody's soon), below the range from which the kernel takes ports for outgoing connections."""
    chooser = random.SystemRandom()
    for _ in range(200):
        port = chooser.randrange(15000, 30000)
        if port != but and port_is_free(port):
            return port
    raise SetupError("no free port between 15000 and 30000 on 127.0.0.1")
