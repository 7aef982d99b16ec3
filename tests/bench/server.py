"""The one PostgreSQL that all contenders stand in front of.

Database `acc` holds pgbench's accounts, a million rows at scale 10; `acc4_0` to `acc4_3` hold the same rows split as the hash
rule splits them: bucket = extended hash & 1023, and each shard a quarter of the buckets. Likewise with another number of shards.
"""

from bench import process
from harness import places, postgres

SCALE = 10
ROWS = 100_000 * SCALE
USER, PASSWORD = "bench", "bench"
TRUSTED_USER = "trusted"  # logs in without proof, everywhere
DATABASE = "acc"
BUCKETS = 1024

SETTINGS = {"max_connections": "700", "shared_buffers": "512MB", "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "4GB",
            "autovacuum": "off", "max_parallel_workers_per_gather": "0"}
HBA = f"host all {TRUSTED_USER} 127.0.0.1/32 trust\n"


def start(root, name="bench", **settings):
    postgres.prepare(root)
    return postgres.PostgresServer(root, name, settings=SETTINGS | settings, hba=HBA).start()


def postmaster(server):
    """Its process id."""
    return int((server.data / "postmaster.pid").read_text().split()[0])


def pin(server, cores):
    process.pin(postmaster(server), cores)


def make_roles(server):
    server.run(f"create role {USER} login password '{PASSWORD}'; create role {TRUSTED_USER} login")


def shards(count):
    """The names of their databases."""
    return [f"{DATABASE}{count}_{i}" for i in range(count)]


def load(server, splits):
    """`splits`: into how many shards the accounts are split, besides all of them in one database."""
    make_roles(server)
    server.run(f"create database {DATABASE}")
    places.run_as_server(["pgbench", "-i", "-q", "-s", SCALE, "-h", server.directory, "-p", server.port, "-U", server.user, DATABASE])
    for count in splits:
        for number, shard in enumerate(shards(count)):
            server.run(f"create database {shard}")
            _copy_shard(server, number, count, shard)
    for database in [DATABASE, *(shard for count in splits for shard in shards(count))]:
        server.run(f"grant select on all tables in schema public to {USER}, {TRUSTED_USER}", database)
    server.run("checkpoint")


def _copy_shard(server, number, count, shard):
    server.run("create table pgbench_accounts (aid int not null, bid int, abalance int, filler char(84)) with (fillfactor = 100)", shard)
    mine = f"(hashint4extended(aid, 0) & {BUCKETS - 1}) * {count} / {BUCKETS} = {number}"
    psql = f"psql -Xq -v ON_ERROR_STOP=1 -h '{server.directory}' -p {server.port} -U {server.user}"
    places.run_as_server(["bash", "-c", "set -euo pipefail; "
                          f"{psql} -d {DATABASE} -c 'copy (select * from pgbench_accounts where {mine} order by aid) to stdout' | "
                          f"{psql} -d {shard} -c 'copy pgbench_accounts from stdin'"])
    server.run("alter table pgbench_accounts add primary key (aid)", shard)
    server.run("vacuum analyze pgbench_accounts", shard)


def verifier(server):
    """The SCRAM verifier of USER, for a proxy that keeps no password."""
    return server.run(f"select rolpassword from pg_authid where rolname = '{USER}'").strip()
