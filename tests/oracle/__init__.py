"""The oracle: random schemas, rows and statements, run on one plain server and through Tessera over some shards.

kinds: types and their values; world: a random schema, its rules and rows; expressions, queries, writes: statements;
compare: what must be the same; run: worlds one after another, counters, differences. What it compares: docs/testing.md.
"""
