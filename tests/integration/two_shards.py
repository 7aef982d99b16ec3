"""What many tests work on: one table over two shards. (A module that imports SCHEMA has a `database` with it: conftest.py.)"""

SCHEMA = "create table t (id int primary key, v text); insert into t select i, 'row ' || i from generate_series(1, 200) i"


def ranges(bound):
    """Keys below `bound` on s0, all others on s1."""
    return {"rules": {"r": {"type": "range", "ranges": [{"below": str(bound), "shard": "s0"}, {"shard": "s1"}]}}, "tables": {"t": {"rule": "r", "key": "id"}}}


RULES = ranges(100)
