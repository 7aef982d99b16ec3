"""The faults. Each is a class that says who may suffer and how, and does the harm. What is not blamed must not notice.

Most do the same again and again: `once`. The others have a `strike` of their own.
"""

import os
import signal
import socket
import struct
import threading
import time

from chaos.arena import DATABASE, POOL_SIZE, SHARDS, Violation
from chaos.ledger import FAILED, UNKNOWN
from chaos.load import IMPORTS, Blame
from harness import wire
from harness.hanging import Stopped
from harness.meddler import Harm
from talk import code

MEDDLED = SHARDS - 1
# 08007: perhaps written. 53300: no connection in time. 57014: stopped by Tessera's own time limit.
GONE = ("08006", "08007", "53300")
HANGING = (*GONE, "57014")


class Fault:
    name = ""
    codes = ()  # SQLSTATEs that its shard's clients may be answered; none: nobody may notice
    dropped = False  # may they lose their connection
    measures = False  # are the other shards' times compared
    counted = "times"

    def __init__(self, rng):
        self.shards = [rng.randrange(SHARDS)]

    @property
    def shard(self):
        return self.shards[0]

    def blame(self):
        return Blame(self.shards if self.codes else (), self.codes, self.dropped)

    def suffers(self):
        """Shards whose statements may be slow."""
        return self.blame().shards

    def strike(self, arena, rng, seconds):
        """Does the harm, ends it, and returns a few words for the table."""
        count, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            count += self.once(arena, rng)
        return f"{count} {self.counted}{f' on s{self.shard}' if self.codes else ''}"

    def once(self, arena, rng):
        """Harm; returns whether there was anything to be harmed."""
        raise NotImplementedError


class BackendsTerminated(Fault):
    name = "terminate backends"
    codes = GONE

    def once(self, arena, rng):
        server = arena.servers[self.shard]
        pids = arena.backends_of(server)
        if pids:
            server.run(f"select pg_terminate_backend({rng.choice(pids)})", "postgres")
        time.sleep(0.02)
        return bool(pids)


class BackendKilled(Fault):
    """SIGKILL of a child: PostgreSQL ends all its connections and recovers."""

    name = "kill -9 a backend"
    codes = GONE
    measures = True

    def once(self, arena, rng):
        server = arena.servers[self.shard]
        pids = arena.backends_of(server)
        if pids:
            os.kill(rng.choice(pids), signal.SIGKILL)
        arena.ask(server, "select 1")  # it has recovered, or has not noticed yet
        time.sleep(0.3)
        return bool(pids)


class ServerRestarted(Fault):
    name = "restart a server"
    codes = GONE
    measures = True

    def strike(self, arena, rng, seconds):
        server = arena.servers[self.shard]
        server.stop("immediate")
        time.sleep(seconds * rng.random() / 2)
        server.start()
        return f"s{self.shard}"


class ServerHangs(Fault):
    name = "SIGSTOP a server"
    codes = HANGING
    measures = True

    def strike(self, arena, rng, seconds):
        with Stopped(arena.servers[self.shard]):
            time.sleep(max(5.0, seconds))  # longer than Tessera's time limit and patience
        return f"s{self.shard}, {max(5.0, seconds):.0f} s"


class TesseraKilled(Fault):
    name = "kill -9 Tessera"
    codes = GONE
    dropped = True

    def __init__(self, rng):
        super().__init__(rng)
        self.shards = range(SHARDS)

    def strike(self, arena, rng, seconds):
        arena.proxy.kill()
        time.sleep(rng.random() / 2)
        arena.proxy.start()
        return "restarted"


class Reloads(Fault):
    """Valid and invalid ones as fast as signals go: nobody may notice."""

    name = "reload storm"
    counted = "signals"

    def strike(self, arena, rng, seconds):
        words = super().strike(arena, rng, seconds)
        arena.proxy.write_config(arena.config())
        before = arena.metric("tessera_config_reloads_total")
        arena.proxy.reload()
        waits_until = time.monotonic() + 10
        while arena.metric("tessera_config_reloads_total") == before:
            if time.monotonic() > waits_until:
                raise Violation("the last reload never came")
            time.sleep(0.05)
        return words

    def once(self, arena, rng):
        if rng.random() < 0.3:
            arena.proxy.config_file.write_text(rng.choice(["databases: nonsense\n", "", "{", arena.proxy.config_file.read_text().replace('"by_id"', '"by_ix"', 1)]))
        else:
            arena.proxy.write_config(arena.config(**rng.choice([{}, {"pool": {"size": POOL_SIZE + 2}}, {"limits": {"clients": 400}}, {"hints": True}])))
        arena.proxy.reload()
        time.sleep(rng.choice([0, 0.01, 0.04]))
        return True


class Cancels(Fault):
    """Every other client is cancelled again and again; those between must never see it."""

    name = "cancel storm"  # `codes` are for shards: whose statements are cancelled is told below

    def strike(self, arena, rng, seconds):
        targets, until, sent = arena.crowd.clients[::2], time.monotonic() + seconds, [0]
        cancelled_before = sum(client.codes["57014"] for client in targets)
        arena.crowd.cancelled = frozenset(client.name for client in targets)

        def storm(number):
            while time.monotonic() < until:
                connection = targets[(number + 4 * sent[0]) % len(targets)].connection
                sent[0] += 1
                if connection is None or connection.process_id is None:
                    continue
                try:
                    with wire.Wire(arena.proxy.host, arena.proxy.port) as canceller:
                        canceller.send(wire.cancel_request(connection.process_id, connection.secret_key))
                        canceller.read_to_end()
                except OSError:
                    time.sleep(0.05)

        threads = [threading.Thread(target=storm, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + 20)
        hits = sum(client.codes["57014"] for client in targets) - cancelled_before
        return f"{sent[0]} sent, {hits} met a statement"


class Vanishings(Fault):
    """Clients leave in the middle of everything; what they had not ended must not be there."""

    name = "clients vanish"
    counted = "clients"

    def once(self, arena, rng):
        shard = rng.randrange(SHARDS)
        with arena.connect() as client:
            rng.choice([self._transaction, self._copy, self._pipeline, self._unit, self._result, self._login])(arena, client, shard)
            time.sleep(rng.choice([0, 0, 0.01, 0.05]))
            if rng.random() < 0.5:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return True

    @staticmethod
    def _insert(row, who):
        return f"insert into writes values ({row}, '{who}', 0)"

    def _transaction(self, arena, client, shard):
        group = arena.ledger.open("writes", shard, 2, "vanished in a transaction")
        group.outcome = FAILED
        client.send(wire.query("begin"), *(wire.query(self._insert(row, "vanished")) for row in group.ids))

    def _copy(self, arena, client, shard):
        group = arena.ledger.open("imports", IMPORTS, 5, "vanished in COPY")
        group.outcome = FAILED
        client.send(wire.query("copy imports from stdin"), *(wire.copy_data(f"{row}\tvanished\t0\n".encode()) for row in group.ids))

    def _pipeline(self, arena, client, shard):
        for _ in range(4):
            group = arena.ledger.open("writes", shard, 1, "vanished in a pipeline")
            group.outcome = UNKNOWN
            client.send(wire.parse(self._insert(group.ids[0], "vanished")), wire.bind(), wire.execute(), wire.SYNC)

    def _unit(self, arena, client, shard):
        group = arena.ledger.open("writes", shard, 2, "vanished before Sync")
        group.outcome = FAILED
        client.send(*(wire.parse(self._insert(row, "vanished")) + wire.bind() + wire.execute() for row in group.ids), wire.FLUSH)

    def _result(self, arena, client, shard):
        client.send(wire.query(f"select repeat(v, 1000) from items where id between {shard}000000001 and {shard}000000150"))

    def _login(self, arena, client, shard):
        with wire.Wire(arena.proxy.host, arena.proxy.port) as another:
            another.send(wire.startup({"user": "app", "database": DATABASE}))


class SlowReaders(Fault):
    """Huge results that are hardly read, on every shard but one connection each: memory stays, others go on."""

    name = "slow readers"
    measures = True

    def strike(self, arena, rng, seconds):
        before, most, readers = arena.proxy.resident_bytes(), 0, []
        try:
            for shard in range(SHARDS):
                reader = arena.connect(timeout=30)
                reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                reader.send(wire.query(f"select repeat(v, 40000) from items where id between {shard}000000001 and {shard}000000150"))
                readers.append(reader)
            # Tessera's time limit for a statement would end them: it does not reach that far.
            until = time.monotonic() + min(seconds, 2.0)
            while time.monotonic() < until:
                for reader in readers:
                    reader.socket.recv(20000)
                most = max(most, arena.proxy.resident_bytes())
                time.sleep(0.05)
        finally:
            for reader in readers:
                reader.close()
        if most - before > 24 << 20:
            raise Violation(f"slow readers cost {(most - before) / (1 << 20):.0f} MB")
        return f"{len(readers)} results of 40 MB, +{max(0, most - before) / (1 << 20):.1f} MB"


class PoolExhausted(Fault):
    name = "pool exhausted"
    codes = ("53300",)
    measures = True

    def strike(self, arena, rng, seconds):
        holders = []
        try:
            deadline = time.monotonic() + 10
            while len(holders) < POOL_SIZE and time.monotonic() < deadline:
                holder = arena.connect()
                holder.ask(wire.query("begin"))
                if code(holder.ask(wire.query(f"select v from items where id = {self.shard}000000001"))) is None:
                    holders.append(holder)
                else:
                    holder.close()
            if len(holders) < POOL_SIZE:
                raise Violation(f"only {len(holders)} of {POOL_SIZE} connections to be had")
            time.sleep(max(1.5, seconds / 2))
        finally:
            for number, holder in enumerate(holders):
                if number % 2:
                    holder.ask(wire.query("rollback"))
                holder.close()
        return f"s{self.shard}"


class Garbage(Fault):
    """Nonsense before and after the login."""

    name = "garbage from clients"
    counted = "connections"

    def once(self, arena, rng):
        nonsense = rng.choice([rng.randbytes(rng.randrange(1, 3000)), b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 2**31) + b"x" * 50, struct.pack(">II", 8, 196608),
                               b"\x16\x03\x01\x02\0\x01" + rng.randbytes(200)])
        if rng.random() < 0.5:
            with wire.Wire(arena.proxy.host, arena.proxy.port) as stranger:
                self._send(stranger, nonsense)
            return True
        letter = rng.choice(list(b"QPBDECFdcfHSX\0\xff"))
        broken = bytes([letter]) + struct.pack(">I", rng.choice([0, 3, 5, 40, 2**31 - 1, 2**32 - 1])) + rng.randbytes(36)
        with arena.connect() as guest:
            guest.send(wire.query("begin"), wire.query(f"select v from items where id = {self.shard}000000007"))
            self._send(guest, rng.choice([nonsense, broken]))
        return True

    @staticmethod
    def _send(connection, data):
        try:
            connection.send(data)
            connection.socket.shutdown(socket.SHUT_WR)
            connection.read_to_end()
        except (OSError, wire.WireError):
            pass  # Tessera was quicker to hang up


class Meddled(Fault):
    """The man in the middle before the last shard: all he can do, at random moments."""

    name = "man in the middle"
    codes = (*HANGING, "08P01")
    dropped = True  # a connection to a client that holds half of a message can only be closed
    measures = True

    def __init__(self, rng):
        super().__init__(rng)
        self.shards = [MEDDLED]

    def strike(self, arena, rng, seconds):
        before = arena.meddler.done
        super().strike(arena, rng, seconds)
        arena.meddler.clear()
        return f"{arena.meddler.done - before} times"

    def once(self, arena, rng):
        # One condition mostly: a message of some kind, a pattern, or the Nth of a connection that is to come.
        condition = rng.choice([{}, {"kind": rng.choice("ZCDT12")}, {"pattern": rng.choice([rb"INSERT", rb"client-", rb"COMMIT", rb"row"])}, {"nth": rng.randrange(1, 40)}])
        harm = Harm(rng.choice(["cut", "reset", "hang", "delay", "truncate", "trickle", "garbage"]), side=rng.choice(["server", "server", "client"]),
                    seconds=rng.random() / 4, times=rng.randrange(1, 4), **condition)
        if harm.action == "garbage" and harm.side == "client":
            return False  # what a server does with another's nonsense is not about Tessera
        arena.meddler.add(harm)
        time.sleep(rng.random() / 5)
        return True


ALL = [BackendsTerminated, TesseraKilled, ServerHangs, Meddled, Cancels, Vanishings, BackendKilled, PoolExhausted, Reloads, SlowReaders, ServerRestarted, Garbage]
