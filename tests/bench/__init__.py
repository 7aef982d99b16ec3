"""./dev bench: pgbench straight to PostgreSQL, and through PgBouncer, HAProxy and Tessera, in turns; statements over many shards.

run         the command line; the order of things
contest     contenders in turns, and what went wrong
server      the one PostgreSQL, its accounts table whole and split over four databases
contenders  each proxy as a child process
floor/      blind byte forwarders, with epoll and with io_uring: what no proxy of one thread can do without
cells       what is measured: protocol, number of clients, TLS, reconnecting
pgbench     one pgbench run, its throughput and latencies, what it cost the proxy
idle        memory per idle connection
bulk        a million rows to one reader
stream      reads one reply against the clock
shards/     many shards: Tessera beside one server and postgres_fdw
syscalls    system calls per statement (strace)
micro       single steps of the hot path, without sockets
process     CPU time and memory of a process, from /proc
machine     what this was measured on and with
figures     medians, ratios, tables
report      tables out of the result; docs/benchmarks.md

The result (.bench/result.json) holds every round; medians and ratios are taken when it is shown.
"""


class BenchError(Exception):
    """Something could not be measured; the message says what and why."""
