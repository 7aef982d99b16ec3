"""Servers that PostgreSQL would never be: they lie, chatter before TLS, cut every packet, or speak no protocol at all."""

import socket
import struct
import threading

from harness import wire

AUTH_OK = wire.message("R", struct.pack(">I", 0))
READY = wire.message("Z", b"I")
GREETING = (AUTH_OK + wire.message("S", b"server_version\x0015.0\0") + wire.message("S", b"client_encoding\0UTF8\0")
            + wire.message("S", b"standard_conforming_strings\0on\0") + wire.message("K", struct.pack(">II", 4711, 4712)) + READY)


class MockServer:
    """`serve(connection)` runs in a thread for each connection (a Conversation); its return or any socket error ends it."""

    def __init__(self, serve):
        self.serve = serve
        self.accepted = 0
        self.received = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._run, args=(client,), daemon=True).start()

    def _run(self, client):
        with client:
            client.settimeout(20)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self.serve(Conversation(client, self.received))
            except (OSError, EOFError):
                pass


class Conversation:
    """The server's side of one connection. Everything that was read is kept in `received`."""

    def __init__(self, client, received):
        self.socket, self.received = client, received

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        self.received.append(data)
        return data

    def packet(self):
        """A packet of the start-up phase: its body."""
        return self.read(struct.unpack(">I", self.read(4))[0] - 4)

    def message(self):
        kind, length = struct.unpack(">cI", self.read(5))
        return kind.decode(), self.read(length - 4)

    def startup(self, answer_to_tls=b"N"):
        """Reads up to the start-up message, declining TLS."""
        body = self.packet()
        while body[:4] in (wire.SSL_REQUEST[4:], wire.GSSENC_REQUEST[4:]):
            self.send(answer_to_tls)
            body = self.packet()
        return body

    def drain(self):
        """Until the other side closes."""
        while self.socket.recv(65536):
            pass


class Relay:
    """To a real server, its answers changed by `change(data) -> pieces`; each piece is a packet of its own."""

    def __init__(self, port, change):
        self.target, self.change = port, change
        self.mock = MockServer(self._serve)
        self.port, self.address = self.mock.port, self.mock.address
        self._ends = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mock.close()
        self.cut()

    def cut(self):
        """Resets every connection that is there."""
        for end in self._ends:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
                end.close()
            except OSError:
                pass
        self._ends = []

    def _serve(self, conversation):
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [server, conversation.socket]
            up = threading.Thread(target=self._upwards, args=(conversation.socket, server), daemon=True)
            up.start()
            while data := server.recv(65536):
                for piece in self.change(data):
                    conversation.send(piece)
            conversation.socket.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _upwards(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
