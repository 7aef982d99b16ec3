"""What is measured: each cell is one statement, the same for every contender."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    key: str  # for --cells
    name: str
    sql: str
    ordered: bool = False  # the rows of the answer have an order
    streams: bool = False  # the answer is long: when its first row comes matters too
    copies_in: bool = False


JOINED = "select count(*), sum(p.amount), sum(a.abalance) from payments p join pgbench_accounts a on a.aid = p.aid"
INTAKE_SHARE = 20  # COPY in: one row in twenty, since postgres_fdw takes them one by one

CELLS = [
    Cell("count", "count", "select count(*) from pgbench_accounts"),
    Cell("avg", "avg", "select avg(abalance) from pgbench_accounts"),
    Cell("group", "sum, group by, order by", "select bid, sum(abalance) from pgbench_accounts group by bid order by bid", ordered=True),
    Cell("top", "top 10 by a value", "select aid, abalance from pgbench_accounts order by abalance desc, aid limit 10", ordered=True),
    Cell("scan", "all rows", "select * from pgbench_accounts", streams=True),
    Cell("sorted", "all rows, sorted by the key", "select * from pgbench_accounts order by aid", ordered=True, streams=True),
    Cell("sorted-value", "all rows, sorted by a value", "select * from pgbench_accounts order by abalance, aid", ordered=True, streams=True),
    Cell("join", "join off the key, summed", JOINED),
    Cell("join-some", "the same of a tenth of the accounts", f"{JOINED} where a.bid = 3"),
    Cell("colocated", "join on the key, all rows", "select o.aid, o.amount, a.abalance from orders o join pgbench_accounts a on a.aid = o.aid",
         streams=True),
    Cell("colocated-sum", "join on the key, summed",
         "select count(*), sum(o.amount), sum(a.abalance) from orders o join pgbench_accounts a on a.aid = o.aid"),
    Cell("copy-out", "COPY out, all rows", "copy (select * from pgbench_accounts) to stdout", streams=True),
    Cell("copy-in", "COPY in, a twentieth of the rows", "copy intake from stdin", copies_in=True),
]
