"""Clients under which faults happen. Each asks for its own name and number, so that any stray reply is noticed, and writes
rows of which the ledger knows what it was told.
"""

import collections
import random
import threading
import time

from chaos.ledger import ACKNOWLEDGED, FAILED, KEYS_OF_A_SHARD, UNKNOWN
from harness import wire
from talk import code, errors, log_in, rows

ITEMS = 200  # rows of each shard that are only read
IMPORTS = 1  # the shard of the plain table
PATIENCE = 30  # seconds without an answer after which a client is stuck

SCHEMA = f"""
create table items (id bigint primary key, v text);
create table writes (id bigint, client text, seq bigint);
create table imports (id bigint, client text, seq bigint);
create index on writes (id);
insert into items select {{shard}} * {KEYS_OF_A_SHARD}::bigint + i, 'row ' || i from generate_series(1, {ITEMS}) i;
"""


def sharding(shards):
    """The configuration's rules and tables: a shard is a range of ids, so that a test knows where a statement goes."""
    ranges = [{"below": str((number + 1) * KEYS_OF_A_SHARD), "shard": f"s{number}"} for number in range(shards - 1)] + [{"shard": f"s{shards - 1}"}]
    sharded = {"rule": "by_id", "key": "id"}
    return {"rules": {"by_id": {"type": "range", "ranges": ranges}}, "tables": {"items": sharded, "writes": sharded, "imports": {"shard": f"s{IMPORTS}"}}}


class Blame:
    """Who may be refused what at the moment: SQLSTATEs by shard. Nothing: any error is a violation."""

    def __init__(self, shards=(), codes=(), dropped=False):
        self.shards, self.codes, self.dropped = frozenset(shards), frozenset(codes), dropped

    def covers(self, shards, sqlstate):
        return bool(self.shards & set(shards)) and sqlstate in self.codes

    def may_drop(self, shards):
        return self.dropped and bool(self.shards & set(shards))


NOBODY = Blame()


class Stray(Exception):
    """A reply that is not the client's own, or an error that nobody is to blame for."""


class Crowd:
    """All clients: starts, pauses, counts."""

    def __init__(self, proxy, database, ledger, shards, seed, roaming=6, faithful=2, more=()):
        """`faithful` clients for each shard that go nowhere else, and `roaming` ones. `more`: further ways of asking by name."""
        self.proxy, self.database, self.ledger, self.shards = proxy, database, ledger, shards
        self.more = more
        self.blame, self.cancelled = NOBODY, frozenset()  # `cancelled`: names of clients whose statements are being cancelled
        self.stopping, self.may_run = threading.Event(), threading.Event()
        self.may_run.set()
        homes = [[shard] for shard in range(shards) for _ in range(faithful)] + [list(range(shards))] * roaming
        self.clients = [Client(self, number, home, random.Random(f"{seed}/{number}")) for number, home in enumerate(homes)]

    def start(self):
        for client in self.clients:
            client.start()

    def total(self, what):
        return sum(getattr(client, what) for client in self.clients)

    def pause(self):
        """Every client ends what it does and waits, connected, outside of a transaction; returns the names of those that do not."""
        self.may_run.clear()
        deadline = time.monotonic() + PATIENCE + 5
        for client in self.clients:
            client.resting.wait(max(0.0, deadline - time.monotonic()))
        return [client.name for client in self.clients if not client.resting.is_set()]

    def resume(self):
        for client in self.clients:
            client.resting.clear()
        self.may_run.set()

    def stop(self):
        self.stopping.set()
        self.may_run.set()
        for client in self.clients:
            client.join(PATIENCE + 5)
        return [client.name for client in self.clients if client.is_alive()]

    def problems(self):
        return [f"{client.name}: {problem}" for client in self.clients for problem in client.problems]

    def start_measuring(self):
        for client in self.clients:
            client.times = []

    def times(self, but=()):
        """Sorted seconds of the faithful clients' single reads, without those of some shards."""
        return sorted(seconds for client in self.clients if len(client.home) == 1 and client.home[0] not in but for seconds in client.times)


def percentile(ordered, part):
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


class Client(threading.Thread):
    def __init__(self, crowd, number, home, rng):
        super().__init__(daemon=True)
        self.crowd, self.home, self.rng = crowd, home, rng
        self.name = f"client-{number}"
        self.sequence = self.statements = self.refused = self.reconnects = self.scatters = 0
        self.problems, self.times = [], []
        self.codes = collections.Counter()
        self.connection, self.prepared = None, set()
        self.recent = collections.deque(maxlen=4)  # what was done last, for the report
        self.resting = threading.Event()

    # Life

    def run(self):
        ways = [self.simple, self.simple, self.extended, self.by_name, self.pipeline, self.scatter, self.insert, self.insert, self.prepared_insert,
                self.insert_pipeline, self.transaction, self.transaction_over_keys, self.copy_in, self.copy_out, *(getattr(self, name) for name in self.crowd.more)]
        while not self.crowd.stopping.is_set():
            if not self.crowd.may_run.is_set():
                self.rest()
                continue
            try:
                if self.connection is None:
                    self.connect()
                way = self.rng.choice(ways)
                self.recent.append(way.__name__)
                way()
            except TimeoutError:
                self.violated(f"no answer within {PATIENCE} s")
            except (wire.WireError, OSError) as error:
                self.lost(error)
            except Stray as error:
                self.violated(str(error))
            except Exception as error:  # an answer that cannot be read is a finding too
                self.violated(repr(error))
        self.drop()

    def rest(self):
        if self.connection is None and not self.crowd.stopping.is_set():
            try:
                self.connect()
            except (wire.WireError, OSError) as error:
                return self.lost(error)
        self.resting.set()
        self.crowd.may_run.wait(0.2)
        return None

    def connect(self):
        self.connection = log_in(self.crowd.proxy, self.crowd.database, timeout=PATIENCE)
        self.prepared = set()
        self.reconnects += 1

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def lost(self, error):
        """The connection has gone: allowed while a fault is on that may do that to the client's shards."""
        self.drop()
        sqlstate = getattr(error, "fields", {}).get("C")
        if not self.crowd.blame.may_drop(self.home) and not (sqlstate and self.crowd.blame.covers(range(self.crowd.shards), sqlstate)):
            self.violated(f"the connection was lost: {error!r}")
        time.sleep(0.05 + self.rng.random() / 10)

    def violated(self, what):
        self.problems.append(f"{what} [after {self.sequence} statements, the last ways: {', '.join(self.recent)}]")
        self.drop()
        if len(self.problems) > 20:
            self.crowd.stopping.set()

    # Checking

    def mine(self):
        self.sequence += 1
        return [self.name, str(self.sequence)]

    def check(self, replies, expected, shards, in_order=True):
        """True: the answer is mine. False: refused, as may be now. Anything else is a stray reply."""
        self.statements += 1
        got = rows(replies)
        failed = code(replies)
        if not in_order:
            got, expected = sorted(got), sorted(expected)
        if failed is None:
            if got != expected:
                raise Stray(f"{got[:5]} instead of {expected[:5]}")
            return True
        if in_order and got != expected[:len(got)]:
            raise Stray(f"{got[:5]} before {errors(replies)} instead of {expected[:5]}")
        self.excuse(replies, shards)
        return False

    def excuse(self, replies, shards):
        fields = errors(replies)[0]
        self.codes[fields["C"]] += 1
        self.refused += 1
        if fields["C"] == "57014" and self.name in self.crowd.cancelled:
            return
        if not self.crowd.blame.covers(shards, fields["C"]):
            raise Stray(f"shard {shards}: {fields['S']} {fields['C']} {fields['M']}")

    def place(self):
        shard = self.rng.choice(self.home)
        number = self.rng.randrange(1, ITEMS + 1)
        return shard, shard * KEYS_OF_A_SHARD + number, f"row {number}"

    # Reading

    def simple(self):
        shard, key, value = self.place()
        mine = self.mine()
        started = time.monotonic()
        replies = self.connection.ask(wire.query(f"select '{mine[0]}', {mine[1]}, v from items where id = {key}"))
        self.times.append(time.monotonic() - started)
        self.check(replies, [[*mine, value]], [shard])

    def parts(self, mine, key, name="", parse=True):
        parameters = [text.encode() for text in (*mine, str(key))]
        sql = "select $1::text, $2::int, v from items where id = $3"
        return (wire.parse(sql, name) if parse else b"") + wire.bind(parameters, name=name) + wire.execute()

    def extended(self):
        shard, key, value = self.place()
        mine = self.mine()
        self.check(self.connection.ask(self.parts(mine, key), wire.SYNC), [[*mine, value]], [shard])

    def by_name(self):
        shard, key, value = self.place()
        mine = self.mine()
        replies = self.connection.ask(self.parts(mine, key, "mine", "mine" not in self.prepared), wire.SYNC)
        if any(reply.type == "1" for reply in replies):
            self.prepared.add("mine")
        self.check(replies, [[*mine, value]], [shard])

    def pipeline(self):
        """Units for several shards in one flight, each with its Sync."""
        units = [(self.place(), self.mine()) for _ in range(self.rng.randrange(2, 6))]
        self.connection.send(*(self.parts(mine, key) + wire.SYNC for (_, key, _), mine in units))
        for (shard, _, value), mine in units:
            # One that another shard holds up, or whose session waits for it, may be refused on its account.
            self.check(self.connection.read_until("Z"), [[*mine, value]], [shard] if len(self.home) == 1 else self.home)

    def scatter(self):
        chosen = [self.place() for _ in range(4)]
        mine = self.mine()
        keys = {key: value for _, key, value in chosen}
        replies = self.connection.ask(wire.query(f"select '{mine[0]}', {mine[1]}, id, v from items where id in ({','.join(map(str, keys))})"))
        self.scatters += len({shard for shard, *_ in chosen}) > 1
        self.check(replies, [[*mine, str(key), value] for key, value in keys.items()], [shard for shard, *_ in chosen], in_order=False)

    def copy_out(self):
        shard, key, value = self.place()
        mine = self.mine()
        replies = self.connection.ask(wire.query(f"copy (select '{mine[0]}', {mine[1]}, v from items where id = {key}) to stdout"))
        lines = [reply.body.decode() for reply in replies if reply.type == "d"]
        if self.check(replies, [], [shard]) and lines != [f"{mine[0]}\t{mine[1]}\t{value}\n"]:
            raise Stray(f"{lines} instead of {mine}")

    def slow(self):
        """Takes as long as a cancel request or a time limit needs to meet it."""
        shard, key, value = self.place()
        mine = self.mine()
        self.check(self.connection.ask(wire.query(f"select '{mine[0]}', {mine[1]}, v, pg_sleep({self.rng.random() / 20:.3f}) from items where id = {key}")), [[*mine, value, ""]], [shard])

    def slow_scatter(self):
        mine = self.mine()
        keys = [shard * KEYS_OF_A_SHARD + 7 for shard in self.home]
        replies = self.connection.ask(wire.query(f"select '{mine[0]}', {mine[1]}, v, pg_sleep({self.rng.random() / 20:.3f}) from items where id in ({','.join(map(str, keys))})"))
        self.check(replies, [[*mine, "row 7", ""]] * len(keys), self.home)

    def leaves(self):
        """With answers on their way; comes back."""
        _, key, _ = self.place()
        self.connection.send(self.parts(self.mine(), key), wire.SYNC, wire.query(f"select repeat(v, 20000) from items where id = {key}") * self.rng.randrange(3))
        time.sleep(self.rng.random() / 100)
        self.drop()

    # Writing

    def settle(self, group, replies, tag):
        """Notes what the client was told about these rows; True if it was told that they are there."""
        failed = errors(replies)
        if not failed:
            if not any(reply.type == "C" and reply.body == tag.encode() + b"\0" for reply in replies):
                raise Stray(f"{replies} instead of {tag}")
            group.outcome = ACKNOWLEDGED
        elif all(fields["S"] == "ERROR" and fields["C"] != "08007" for fields in failed):
            group.outcome = FAILED
        else:
            group.outcome = UNKNOWN
        group.story += f", {self.name} {self.sequence}, {failed[0]['C'] + ' ' + failed[0]['M'] if failed else tag}"
        return not failed

    def rows_for(self, table, count, story, shard=None):
        return self.crowd.ledger.open(table, self.rng.choice(self.home) if shard is None else shard, count, story)

    def insert(self):
        group = self.rows_for("writes", 1, "insert")
        mine = self.mine()
        replies = self.connection.ask(wire.query(f"insert into writes values ({group.ids[0]}, '{mine[0]}', {mine[1]}) returning client, seq"))
        self.settle(group, replies, "INSERT 0 1")
        self.check(replies, [mine], [group.shard])

    def insert_parts(self, row, mine, name="", parse=True):
        parameters = [text.encode() for text in (str(row), *mine)]
        return (wire.parse("insert into writes values ($1, $2, $3) returning client, seq", name) if parse else b"") + wire.bind(parameters, name=name) + wire.execute()

    def prepared_insert(self):
        group = self.rows_for("writes", 1, "prepared insert")
        mine = self.mine()
        replies = self.connection.ask(self.insert_parts(group.ids[0], mine, "in", "in" not in self.prepared), wire.SYNC)
        if any(reply.type == "1" for reply in replies):
            self.prepared.add("in")
        self.settle(group, replies, "INSERT 0 1")
        self.check(replies, [mine], [group.shard])

    def insert_pipeline(self):
        """Inserts in one flight, each its own transaction."""
        units = [(self.rows_for("writes", 1, "pipelined insert"), self.mine()) for _ in range(self.rng.randrange(2, 5))]
        self.connection.send(*(self.insert_parts(group.ids[0], mine) + wire.SYNC for group, mine in units))
        for group, mine in units:
            replies = self.connection.read_until("Z")
            self.settle(group, replies, "INSERT 0 1")
            self.check(replies, [mine], [group.shard] if len(self.home) == 1 else self.home)

    def transaction(self):
        self.in_transaction(2, self.rng.random() < 0.4, "transaction")

    def transaction_over_keys(self):
        self.in_transaction(self.rng.randrange(1, 5), False, "long transaction")

    def in_transaction(self, count, roll_back, story):
        group = self.rows_for("writes", count, story)
        group.outcome = FAILED  # until COMMIT has left this client
        home = [group.shard]
        if not self.check(self.connection.ask(wire.query("begin")), [], home):
            return
        good = True
        for row in group.ids:
            mine = self.mine()
            if self.rng.random() < 0.5:
                replies = self.connection.ask(wire.query(f"insert into writes values ({row}, '{mine[0]}', {mine[1]}) returning client, seq"))
            else:
                replies = self.connection.ask(self.insert_parts(row, mine), wire.SYNC)
            if errors(replies):
                group.story += f", {errors(replies)[0]['C']} inside"
            if not self.check(replies, [mine], home):
                good = False
                break
        if roll_back or not good:
            replies = self.connection.ask(wire.query("rollback"))
        else:
            group.outcome = UNKNOWN
            replies = self.connection.ask(wire.query("commit"))
            self.settle(group, replies, "COMMIT")
        self.check(replies, [], home)
        if self.connection.status != "I":
            raise Stray(f"the transaction is still open: {replies}")

    def copy_in(self):
        """Into the plain table, ended well or by the client's own word; only for those who may go to its shard."""
        if IMPORTS not in self.home:
            return
        group = self.rows_for("imports", self.rng.randrange(1, 30), "copy", IMPORTS)
        group.outcome = FAILED  # until CopyDone has left this client
        mine = self.mine()
        self.connection.send(wire.query("copy imports from stdin"))
        first = self.connection.read_until("G", "Z")
        if first[-1].type == "Z":
            self.check(first, [], [IMPORTS])
            return
        give_up = self.rng.random() < 0.2
        for row in group.ids:
            self.connection.send(wire.copy_data(f"{row}\t{mine[0]}\t{mine[1]}\n".encode()))
        if give_up:
            replies = self.connection.ask(wire.copy_fail("changed my mind"))
            if code(replies) == "57014":
                self.statements += 1
                return
        else:
            group.outcome = UNKNOWN
            replies = self.connection.ask(wire.COPY_DONE)
            self.settle(group, replies, f"COPY {len(group.ids)}")
        self.check(replies, [], [IMPORTS])
