"""A programmable man in the middle between Tessera and one shard: it understands messages and does harm on the Nth or on a pattern.

with Meddler(server.port) as middle:            a shard's address is middle.address; TLS is declined, so messages can be read
    middle.add(Harm("cut", side="server", nth=3))
    middle.add(Harm("delay", pattern=rb"writes", seconds=0.2, times=None))

A connection's messages are counted from the end of its login (or from `restart_counting`), from 1, apart for each side. Harm that nothing has set off yet stays;
`clear()` takes all of it back and lets hanging connections go on their way to their end.
"""

import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

from harness import wire

ENCRYPTION_REQUESTS = (wire.SSL_REQUEST, wire.GSSENC_REQUEST)
ACTIONS = ("cut", "reset", "hang", "delay", "truncate", "trickle", "garbage")


@dataclass
class Harm:
    """What to do, and when. Conditions that are given must all hold; without any it is the next message of that side.

    cut: both ends are closed instead of passing the message on. reset: the same with RST. hang: nothing passes any more, in both
    directions. delay: the message comes `seconds` late. truncate: half of the message, then closed. trickle: from here on each
    byte is a packet of its own. garbage: other bytes in its place.
    """

    action: str
    side: str = "server"  # whose message
    nth: int | None = None
    kind: str | None = None  # letter of the message
    pattern: bytes | None = None
    times: int | None = 1  # None: always
    seconds: float = 0.1
    done: int = field(default=0, compare=False)

    def __post_init__(self):
        if self.action not in ACTIONS or self.side not in ("server", "client"):
            raise ValueError(f"no harm like {self.action} by the {self.side}")

    def fits(self, side, number, message):
        if side != self.side or (self.times is not None and self.done >= self.times):
            return False
        if self.kind is not None and message[:1] != self.kind.encode():
            return False
        if self.pattern is not None and not re.search(self.pattern, message):
            return False
        return self.nth is None or number == self.nth


class Meddler:
    def __init__(self, port, host="127.0.0.1"):
        self.target = (host, port)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.lock = threading.Lock()
        self.harms, self.lines = [], set()
        self.done = 0  # harm that was done
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def add(self, *harms):
        with self.lock:
            self.harms += harms

    def clear(self):
        """No harm any more; connections that hang are closed."""
        with self.lock:
            self.harms = []
            hanging = [line for line in self.lines if line.hanging.is_set()]
        for line in hanging:
            line.close()

    def restart_counting(self):
        """The next message of each side of each connection is the first one."""
        with self.lock:
            for line in self.lines:
                line.numbers = dict.fromkeys(line.numbers, 0)

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass  # closed before
        self.listener.close()
        with self.lock:
            lines = list(self.lines)
        for line in lines:
            line.close()

    def cut(self):
        """Resets every connection that is there."""
        with self.lock:
            lines = list(self.lines)
        for line in lines:
            line.close(reset=True)

    def harm_for(self, side, number, message):
        with self.lock:
            for harm in self.harms:
                if harm.fits(side, number, message):
                    harm.done += 1
                    self.done += 1
                    return harm
        return None

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, timeout=10)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            line = _Line(self, client, server)
            with self.lock:
                self.lines.add(line)
            line.start()


class _Line:
    """One connection through the meddler: a thread for each direction."""

    def __init__(self, meddler, client, server):
        self.meddler = meddler
        self.ends = {"client": client, "server": server}
        for end in self.ends.values():
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.numbers = {"client": 0, "server": 0}  # messages since the login
        self.logged_in = threading.Event()
        self.hanging, self.gone = threading.Event(), threading.Event()

    def start(self):
        for side in self.ends:
            threading.Thread(target=self._run, args=(side,), daemon=True).start()

    def close(self, reset=False):
        self.gone.set()
        for end in self.ends.values():
            try:
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # Wakes the thread that reads, without which the socket stays open; of a reset the other side sees nothing before it.
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
                end.close()
            except OSError:
                pass  # it is closed already, from either side
        with self.meddler.lock:
            self.meddler.lines.discard(self)

    def _run(self, side):
        try:
            source, target = self.ends[side], self.ends["client" if side == "server" else "server"]
            buffer = b"" if side == "server" else self._startup(source, target)
            _Direction(self, side, source, target, buffer).pump()
        except (OSError, ValueError):
            pass  # the usual end of one side is the end of the line
        finally:
            if not self.hanging.is_set():
                self.close()

    def _startup(self, source, target):
        """Passes the packets without a letter on; declines encryption."""
        buffer = b""
        while True:
            while len(buffer) < 4 or len(buffer) < struct.unpack_from(">I", buffer)[0]:
                data = source.recv(65536)
                if not data:
                    raise OSError("closed")
                buffer += data
            length = struct.unpack_from(">I", buffer)[0]
            packet, buffer = buffer[:length], buffer[length:]
            if packet in ENCRYPTION_REQUESTS:
                source.sendall(b"N")
                continue
            target.sendall(packet)
            return buffer


class _Direction:
    """The messages of one side, and what becomes of them."""

    def __init__(self, line, side, source, target, buffer):
        self.line, self.side, self.source, self.target, self.buffer = line, side, source, target, buffer
        self.trickling = False

    def pump(self):
        while True:
            for message in self._whole():
                if not self._pass(message):
                    return
            data = self.source.recv(1 << 16)
            if not data:
                return
            self.buffer += data

    def _whole(self):
        at, found = 0, []
        while len(self.buffer) - at >= 5:
            length = struct.unpack_from(">I", self.buffer, at + 1)[0] + 1
            if len(self.buffer) - at < length:
                break
            found.append(self.buffer[at:at + length])
            at += length
        self.buffer = self.buffer[at:]
        return found

    def _pass(self, message):
        """False: the line has ended."""
        line = self.line
        if line.hanging.is_set():
            return self._hang()
        if not line.logged_in.is_set():
            if self.side == "server" and message[:1] == b"Z":
                line.logged_in.set()
            self._send(message)
            return True
        line.numbers[self.side] += 1
        harm = line.meddler.harm_for(self.side, line.numbers[self.side], message)
        if harm is None:
            self._send(message)
            return True
        return self._harm(harm, message)

    def _harm(self, harm, message):
        if harm.action == "cut":
            self.line.close()
            return False
        if harm.action == "reset":
            self.line.close(reset=True)
            return False
        if harm.action == "hang":
            self.line.hanging.set()
            return self._hang()
        if harm.action == "truncate":
            self._send(message[:len(message) // 2])
            self.line.close()
            return False
        if harm.action == "garbage":
            self._send(b"\xff\x00garbage" * (len(message) // 8 + 1))
            return True
        if harm.action == "delay":
            time.sleep(harm.seconds)
        self.trickling = self.trickling or harm.action == "trickle"
        self._send(message)
        return True

    def _hang(self):
        """Nothing is passed on, and nothing is closed from here, until `clear`, `close` or the end of the side that listens."""
        while not self.line.gone.is_set():
            data = self.source.recv(1 << 16)
            if not data:
                self.line.close()
        return False

    def _send(self, data):
        if not self.trickling:
            self.target.sendall(data)
            return
        for at in range(len(data)):
            self.target.sendall(data[at:at + 1])
