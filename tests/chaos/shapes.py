"""Configurations that are really different, over data from which every answer tells where it came from.

Each server holds all keys of the tables `t` and `u`, and `v` names the server: so a statement may be sent anywhere and its answer
says where it was sent. A Shape is a configuration and what it must lead to.
"""

from dataclasses import dataclass

from harness.tessera import database_config

KEYS = 100
SCHEMA = "".join(f"create table {table} (id int primary key, v text, n int not null default 0);"
                 f"insert into {table} select i, split_part(current_setting('cluster_name'), '-', 2), 0 from generate_series(1, {KEYS}) i;" for table in ("t", "u"))


@dataclass
class Shape:
    name: str
    config: dict
    places: dict  # table: key -> the name of the server

    def place(self, table, key):
        return self.places[table](key)


def ranges(*bounds, shards=("s0", "s1", "s2")):
    found = [{"below": str(bound), "shard": shard} for bound, shard in zip(bounds, shards)]
    return {"type": "range", "ranges": [*found, {"shard": shards[len(bounds)]}]}


class Shapes:
    """All of them over three servers, for one database."""

    def __init__(self, servers, database, **more):
        self.servers, self.database, self.more = servers, database, more
        self.names = [server.name.split("-", 1)[1] for server in servers]
        with servers[0].connect() as connection:
            buckets = connection.execute(f"select i, mod(mod(hashint8extended(i, 0)::numeric + 18446744073709551616, 18446744073709551616), 3)::int from generate_series(1, {KEYS}) i").fetchall()
        self.hashed = dict(buckets)

    def build(self, name, rules, tables, t, u, shards=None, default=0):
        """`t`, `u`: number of the server by key. `shards`: (name, number of the server) in the order in which they are listed."""
        shards = shards or [(f"s{number}", number) for number in range(3)]
        entry = database_config([self.servers[number] for _, number in shards], self.database, rules=rules, tables=tables, **self.more)
        entry["shards"] = {shard: {"primary": self.servers[number].address} for shard, number in shards}
        entry["default_shard"] = next(shard for shard, number in shards if number == default)
        places = {"t": lambda key: self.names[t(key)], "u": lambda key: self.names[u(key)]}
        return Shape(name, {"databases": {self.database: entry}}, places)

    def all(self):
        def low(key):
            return 0 if key < 50 else 1 if key < 80 else 2

        def high(key):
            return 0 if key < 20 else 1 if key < 40 else 2

        def turned(key):
            return 2 if key < 50 else 0 if key < 80 else 1

        both = {"t": {"rule": "a", "key": "id"}, "u": {"rule": "b", "key": "id"}}
        swapped_tables = {"t": {"rule": "b", "key": "id"}, "u": {"rule": "a", "key": "id"}}
        a, b = ranges(50, 80), ranges(20, 40)
        entries = {str(key): f"s{key % 3}" for key in range(1, KEYS + 1)}
        turned_range = ranges(50, 80, shards=("s2", "s0", "s1"))
        return [
            self.build("two ranges", {"a": a, "b": b}, both, low, high),
            self.build("bounds moved", {"a": ranges(30, 60), "b": ranges(60, 90)}, both, lambda key: 0 if key < 30 else 1 if key < 60 else 2, lambda key: 0 if key < 60 else 1 if key < 90 else 2),
            self.build("rules swapped", {"a": b, "b": a}, both, high, low),
            self.build("rules of the tables swapped", {"a": a, "b": b}, swapped_tables, high, low),
            self.build("rules written in another order", {"b": b, "a": a}, both, low, high),
            self.build("shards of the ranges turned", {"a": turned_range, "b": b}, both, turned, high),
            self.build("a directory in a rule's place", {"a": {"type": "directory", "entries": entries, "otherwise": "s2"}, "b": b}, both, lambda key: key % 3, high),
            self.build("a hash in a rule's place", {"a": {"type": "hash", "buckets": 3, "shards": ["s0", "s1", "s2"]}, "b": b}, both, lambda key: self.hashed[key], high),
            self.build("shards in another order", {"a": a, "b": b}, both, low, high, [("s2", 2), ("s0", 0), ("s1", 1)]),
            self.build("shards renamed", {"a": ranges(50, 80, shards=("x", "y", "z")), "b": ranges(20, 40, shards=("x", "y", "z"))}, both, low, high, [("x", 0), ("y", 1), ("z", 2)]),
            self.build("shards have swapped their names", {"a": a, "b": b}, both, lambda key: [1, 0, 2][low(key)], lambda key: [1, 0, 2][high(key)], [("s0", 1), ("s1", 0), ("s2", 2)]),
            self.build("a shard less", {"a": ranges(50), "b": ranges(20)}, both, lambda key: int(key >= 50), lambda key: int(key >= 20), [("s0", 0), ("s1", 1)]),
            self.build("one table plain", {"b": b}, {"u": {"rule": "b", "key": "id"}}, lambda key: 1, high, default=1),
            self.build("one table on a shard", {"b": b}, {"t": {"shard": "s2"}, "u": {"rule": "b", "key": "id"}}, lambda key: 2, high),
            self.build("both tables plain", {}, {}, lambda key: 2, lambda key: 2, default=2),
        ]

    def invalid(self):
        """Files that must change nothing."""
        good = self.all()[0].config
        unknown_shard = self.build("", {"a": ranges(10, 20, shards=("s0", "s1", "s9")), "b": ranges(1)}, {"t": {"rule": "a", "key": "id"}}, None, None).config
        overlapping = self.build("", {"a": ranges(80, 50)}, {"t": {"rule": "a", "key": "id"}}, None, None).config
        no_column = self.build("", {"a": ranges(10, 20)}, {"t": {"rule": "a", "key": "nope"}}, None, None).config
        return ["", "databases: nonsense\n", unknown_shard, overlapping, no_column, {**good, "workers": 7}]
