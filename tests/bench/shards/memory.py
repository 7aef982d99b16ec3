"""Tessera's memory does not grow with what passes through it: stated as a bound, and a problem when it is passed.

What one statement may hold is a few reads and writes for each of its connections (net/event_loop.hpp, net/stream.hpp), which is some
hundred kilobytes each. The bound is room for that, and the answers are ten times the bound, so that whoever kept them would be seen.
"""

import math

from bench import BenchError, process
from bench.shards.exchange import Session

BOUND = 8 << 20  # above what the process had after its first statement
TIMES = 10
PAUSE = 1.0  # seconds in which the client does not read
FILLER = 84  # bytes
MB = 1e6


def statements(rows):
    """(name, SQL), each with an answer of `TIMES` the bound."""
    def long(value, count):
        return f"select aid, abalance, repeat({value}, {math.ceil(TIMES * BOUND / (FILLER * count))})"

    yield "all rows, relayed", f"{long('filler', rows)} from pgbench_accounts"
    yield "all rows, sorted and merged", f"{long('filler', rows)} from pgbench_accounts order by abalance, aid"
    yield "all rows, gathered and numbered", f"{long('filler', rows)}, row_number() over (order by abalance, aid) from pgbench_accounts"
    joined = "from payments join pgbench_accounts using (aid)"
    yield "two tables, gathered and joined", f"{long('filler', rows // 10)} {joined}"
    # They come so fast that one read goes on into the second table.
    yield "the same with short rows", f"{long(f'repeat(chr(46), {FILLER})', rows // 10)} {joined}"


def measure(contender, rows):
    """For a fresh process. The rows of the report."""
    session = Session(contender)
    try:
        session.run("select count(*) from pgbench_accounts")
        start = process.resident_bytes(session.pid)
        return {"start": start, "steps": [_step(session, name, sql, start) for name, sql in statements(rows)]}
    finally:
        session.close()


def _step(session, name, sql, start):
    process.forget_peak(session.pid)
    read = session.run(sql, pause=PAUSE)
    if read.size < TIMES * BOUND:
        raise BenchError(f"memory, {name}: an answer of {read.size} bytes shows nothing")
    return {"name": name, "bytes": read.size, "peak": process.peak_bytes(session.pid), "start": start, "bound": BOUND}


def complaint(peak, start):
    """None if the peak is within the bound."""
    if peak - start <= BOUND:
        return None
    return f"memory: {peak / MB:.1f} MB were resident, {(peak - start) / MB:.1f} more than before; the bound is {BOUND / MB:.1f}"
