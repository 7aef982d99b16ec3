"""PostgreSQL's protocol 3.0 by hand: any message in any order, replies as they came.

`Wire` owns one blocking socket. Messages are built by the functions below as bytes, so a test may cut, join or falsify
them before `send`. Replies are `Message(type, body)`; `type` is one letter.
"""

import base64
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import time
from typing import NamedTuple

SSL_REQUEST = struct.pack(">II", 8, 80877103)
GSSENC_REQUEST = struct.pack(">II", 8, 80877104)


class WireError(Exception):
    """The peer broke the protocol, closed, or refused; `fields` holds an ErrorResponse's fields if there was one."""

    def __init__(self, text, fields=None):
        super().__init__(text)
        self.fields = fields or {}


class Message(NamedTuple):
    type: str
    body: bytes

    def __repr__(self):
        return describe(self)


# Messages of the client

def message(kind, body=b""):
    return kind.encode() + struct.pack(">I", len(body) + 4) + body


def text(value):
    return (value if isinstance(value, bytes) else value.encode()) + b"\0"


def startup(parameters, version=196608):
    body = struct.pack(">I", version) + b"".join(text(k) + text(v) for k, v in parameters.items()) + b"\0"
    return struct.pack(">I", len(body) + 4) + body


def cancel_request(process_id, secret_key):
    return struct.pack(">IIII", 16, 80877102, process_id, secret_key)


def query(sql):
    return message("Q", text(sql))


def parse(sql, name="", types=()):
    return message("P", text(name) + text(sql) + struct.pack(f">H{len(types)}I", len(types), *types))


def bind(parameters=(), portal="", name="", formats=(), result_formats=()):
    """`parameters`: bytes as they go out, None for NULL."""
    body = text(portal) + text(name) + struct.pack(f">H{len(formats)}H", len(formats), *formats)
    body += struct.pack(">H", len(parameters))
    for value in parameters:
        body += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    return message("B", body + struct.pack(f">H{len(result_formats)}H", len(result_formats), *result_formats))


def describe_statement(name=""):
    return message("D", b"S" + text(name))


def describe_portal(name=""):
    return message("D", b"P" + text(name))


def execute(portal="", limit=0):
    return message("E", text(portal) + struct.pack(">I", limit))


def close_statement(name=""):
    return message("C", b"S" + text(name))


def close_portal(name=""):
    return message("C", b"P" + text(name))


def function_call(oid, arguments=(), formats=(), result_format=0):
    body = struct.pack(f">IH{len(formats)}H", oid, len(formats), *formats) + struct.pack(">H", len(arguments))
    for value in arguments:
        body += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    return message("F", body + struct.pack(">H", result_format))


def copy_data(data):
    return message("d", data)


def copy_fail(reason):
    return message("f", text(reason))


FLUSH = message("H")
SYNC = message("S")
COPY_DONE = message("c")
TERMINATE = message("X")


# Messages of the server

def error_fields(body):
    """The fields of an ErrorResponse or NoticeResponse by their letter."""
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}


def rows(replies):
    """The rows of text in these replies, each a list."""
    found = []
    for reply in replies:
        if reply.type != "D":
            continue
        at, row = 2, []
        for _ in range(struct.unpack_from(">H", reply.body)[0]):
            length = struct.unpack_from(">i", reply.body, at)[0]
            at += 4
            row.append(None if length < 0 else reply.body[at:at + length].decode())
            at += max(0, length)
        found.append(row)
    return found


def split_messages(data):
    """All whole messages at the beginning of `data`, and what is left."""
    found, at = [], 0
    while len(data) - at >= 5:
        length = struct.unpack_from(">I", data, at + 1)[0]
        if length < 4:
            raise WireError(f"a message of length {length}")
        if len(data) - at < 1 + length:
            break
        found.append(Message(chr(data[at]), bytes(data[at + 5:at + 1 + length])))
        at += 1 + length
    return found, data[at:]


NAMES = {"R": "Authentication", "K": "BackendKeyData", "S": "ParameterStatus", "Z": "ReadyForQuery", "T": "RowDescription",
         "D": "DataRow", "C": "CommandComplete", "E": "ErrorResponse", "N": "NoticeResponse", "1": "ParseComplete",
         "2": "BindComplete", "3": "CloseComplete", "n": "NoData", "t": "ParameterDescription", "s": "PortalSuspended",
         "I": "EmptyQueryResponse", "G": "CopyInResponse", "H": "CopyOutResponse", "W": "CopyBothResponse", "d": "CopyData",
         "c": "CopyDone", "A": "NotificationResponse", "V": "FunctionCallResponse", "v": "NegotiateProtocolVersion"}


def describe(reply):
    name = NAMES.get(reply.type, f"message '{reply.type}'")
    if reply.type in "EN":
        fields = error_fields(reply.body)
        return f"{name} {fields.get('S')} {fields.get('C')}: {fields.get('M')}"
    if reply.type == "Z":
        return f"{name} {reply.body.decode()}"
    return f"{name} {reply.body[:60]!r}{'…' if len(reply.body) > 60 else ''}"


class Wire:
    """One connection. Attributes after `login`: parameters, process_id, secret_key, status (of the last ReadyForQuery)."""

    def __init__(self, host, port, timeout=10):
        """`host`: or the folder of a Unix socket."""
        if str(host).startswith("/"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.socket = socket.create_connection((host, port), timeout=timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.buffer = b""
        self.parameters = {}
        self.process_id = self.secret_key = self.status = None
        self.login_messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # Bytes

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def receive(self):
        """Some more bytes into the buffer; False at the end of the stream."""
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def read_exactly(self, count):
        while len(self.buffer) < count:
            if not self.receive():
                raise WireError(f"closed, with {self.buffer!r} left")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read(self):
        """The next message."""
        kind, length = struct.unpack(">cI", self.read_exactly(5))
        if length < 4:
            raise WireError(f"a message of length {length}")
        return Message(kind.decode("latin-1"), self.read_exactly(length - 4))

    def read_until(self, *kinds):
        """All messages up to the first of one of these types."""
        messages = []
        while not messages or messages[-1].type not in kinds:
            messages.append(self.read())
            if messages[-1].type == "Z":
                self.status = messages[-1].body.decode()
        return messages

    def read_to_end(self):
        """All messages until the peer closes."""
        messages = []
        while True:
            try:
                messages.append(self.read())
            except (WireError, ConnectionResetError):
                return messages

    def ask(self, *parts):
        """Sends, then reads up to ReadyForQuery."""
        self.send(*parts)
        return self.read_until("Z")

    def exchange(self, chunks, is_complete, timeout=15):
        """Sends `chunks`, (bytes, pause in seconds before), while reading; returns all reply bytes and how it ended.

        Ends when `is_complete(all reply bytes)`, when the peer closes, or after `timeout`: "complete", "closed", "timeout".
        """
        replies, self.buffer = bytearray(self.buffer), b""
        waiting, pending = list(chunks), b""
        due = time.monotonic()
        deadline = due + timeout
        while time.monotonic() < deadline:
            if not pending and waiting and time.monotonic() >= due:
                pending = waiting.pop(0)[0]
                due = time.monotonic() + (waiting[0][1] if waiting else 0)
            wait = max(0.0, min(0.5, due - time.monotonic())) if waiting and not pending else 0.5
            readable, writable, _ = select.select([self.socket], [self.socket] if pending else [], [], wait)
            try:
                if writable:
                    pending = pending[self.socket.send(pending):]
                if readable:
                    data = self.socket.recv(65536)
                    replies += data
                    if not data:
                        return bytes(replies), "closed"
            except (ConnectionResetError, BrokenPipeError):
                return bytes(replies), "closed"
            if readable and is_complete(replies):
                return bytes(replies), "complete"
        return bytes(replies), "timeout"

    # Login

    def start_tls(self, context=None):
        """SSLRequest and the handshake; the context verifies nothing unless given."""
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.send(SSL_REQUEST)
        answer = self.read_exactly(1)
        if answer != b"S":
            raise WireError(f"TLS refused: {answer!r}")
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def login(self, user, database, password=None, parameters=None, channel_binding=False):
        """Start-up and authentication by whatever the server asks for; returns self, ready for queries."""
        self.send(startup({"user": user, "database": database, **(parameters or {})}))
        while True:
            reply = self.read()
            self.login_messages.append(reply)
            if reply.type == "R":
                self._authenticate(reply.body, user, password, channel_binding)
            elif reply.type == "S":
                key, value = reply.body.split(b"\0")[:2]
                self.parameters[key.decode()] = value.decode()
            elif reply.type == "K":
                self.process_id, self.secret_key = struct.unpack(">II", reply.body)
            elif reply.type == "Z":
                self.status = reply.body.decode()
                return self
            elif reply.type == "E":
                raise WireError(describe(reply), error_fields(reply.body))
            elif reply.type not in "Nv":
                raise WireError(f"during login: {describe(reply)}")

    def _authenticate(self, body, user, password, channel_binding):
        kind = struct.unpack_from(">I", body)[0]
        if kind == 0:
            return
        if password is None:
            raise WireError(f"the server asks for authentication {kind} and there is no password")
        if kind == 3:
            self.send(message("p", text(password)))
        elif kind == 5:
            self.send(message("p", text(md5_answer(user, password, body[4:8]))))
        elif kind == 10:
            self._scram(body[4:].split(b"\0"), password, channel_binding)
        else:
            raise WireError(f"authentication {kind} is not spoken here")

    def _scram(self, mechanisms, password, channel_binding):
        """RFC 5802 and 7677; for ASCII passwords, which SASLprep leaves alone."""
        mechanism, header, binding = "SCRAM-SHA-256", b"n,,", b""
        if channel_binding:
            if b"SCRAM-SHA-256-PLUS" not in mechanisms:
                raise WireError("no channel binding on offer")
            mechanism, header = "SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,"
            binding = hashlib.sha256(self.socket.getpeercert(binary_form=True)).digest()
        nonce = base64.b64encode(os.urandom(18))
        first = b"n=,r=" + nonce
        self.send(message("p", text(mechanism) + struct.pack(">I", len(header + first)) + header + first))
        server_first = self._sasl(11)
        attributes = dict(part.split(b"=", 1) for part in server_first.split(b","))
        if not attributes[b"r"].startswith(nonce) or attributes[b"r"] == nonce:
            raise WireError("the server's nonce does not go on from ours")
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(attributes[b"s"]), int(attributes[b"i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        last = b"c=" + base64.b64encode(header + binding) + b",r=" + attributes[b"r"]
        signed = first + b"," + server_first + b"," + last
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.send(message("p", last + b",p=" + base64.b64encode(proof)))
        expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        if self._sasl(12) != b"v=" + base64.b64encode(expected):
            raise WireError("the server does not know the password either")

    def _sasl(self, kind):
        reply = self.read()
        self.login_messages.append(reply)
        if reply.type == "E":
            raise WireError(describe(reply), error_fields(reply.body))
        if reply.type != "R" or struct.unpack_from(">I", reply.body)[0] != kind:
            raise WireError(f"expected SASL step {kind}, got {describe(reply)}")
        return reply.body[4:]


def md5_answer(user, password, salt):
    inner = hashlib.md5((password + user).encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()


def connect(host, port, user, database, password=None, tls=None, timeout=10, **options):
    """A logged-in Wire. `tls`: None, True, or an ssl.SSLContext."""
    wire = Wire(host, port, timeout)
    try:
        if tls:
            wire.start_tls(None if tls is True else tls)
        return wire.login(user, database, password, **options)
    except BaseException:
        wire.close()
        raise
