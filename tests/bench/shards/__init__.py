"""Many shards: statements over a million rows on four shards, beside one plain server and beside postgres_fdw over the same shards.

data        the rows, and who has which
contenders  the plain server (also with parallel workers), postgres_fdw's coordinator, Tessera
cells       the statements
exchange    one statement on one connection: its answer, its time
memory      what Tessera's memory must not do
contest     the order of things
report      the tables
"""

from bench.shards.cells import CELLS

LOOKUPS, MEMORY = "lookups", "memory"
NAMES = [*(cell.key for cell in CELLS), LOOKUPS, MEMORY]
