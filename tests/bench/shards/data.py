"""The rows, made by each database for itself, and who has which.

`pgbench_accounts` as pgbench makes them (but its groups and balances are scattered), and for each ten of them a row of `orders`, split by
the account, and one of `payments`, split by a number of its own. `intake` is empty.

Tessera's shards have their rows in the schema public. postgres_fdw's partitions are in the same databases, in the schema fdw: PostgreSQL
places rows by another hash than its extended hash functions without a seed, which Tessera's rule is.
"""

from bench import server

SHARDS = 4
COORDINATOR = "coordinator"
FDW_SCHEMA = "fdw"
ACCOUNT = "aid int not null, bid int not null, abalance int not null, filler char(84) not null"

# Each table's columns, its key, and its i-th row.
TABLES = {
    "pgbench_accounts": (ACCOUNT, "aid", "i, 1 + (hashint4(i) & 1023) % 10, hashint4extended(i, 7) % 100000, rpad('account ' || i, 84, '.')"),
    "orders": ("aid int not null, amount int not null", "aid", "i, (hashint4extended(i, 8) & 1023)"),
    "payments": ("pid int not null, aid int not null, amount int not null", "pid",
                 "i, 1 + (hashint4extended(i, 9) & 1073741823) % {accounts}, (hashint4extended(i, 10) & 1023)"),
    "intake": (ACCOUNT, "aid", "i, 1, 1, ''"),
}
KEYS = {table: key for table, (_, key, _) in TABLES.items()}


def shards():
    return server.shards(SHARDS)


def load(postgres_server, rows):
    """Everything into the one server: the rows whole, and twice split over the shards' databases."""
    server.make_roles(postgres_server)
    _make(postgres_server, server.DATABASE, "public", rows, "true")
    for number, shard in enumerate(shards()):
        mine = f"(hashint4extended(i, 0) & {server.BUCKETS - 1}) * {SHARDS} / {server.BUCKETS} = {number}"
        _make(postgres_server, shard, "public", rows, mine)
        postgres_server.run(f"create schema {FDW_SCHEMA}; create table {FDW_SCHEMA}.placing (i int) partition by hash (i)", shard)
        _make(postgres_server, shard, FDW_SCHEMA, rows, f"satisfies_hash_partition('{FDW_SCHEMA}.placing'::regclass, {SHARDS}, {number}, i)")
    postgres_server.run("checkpoint")


def _make(postgres_server, database, schema, rows, mine):
    """`mine`: which i this database has, as SQL."""
    if schema == "public":
        postgres_server.run(f"create database {database}")
    for table, (columns, key, row) in TABLES.items():
        count = {"pgbench_accounts": rows, "intake": 0}.get(table, rows // 10)
        values = row.format(accounts=rows)
        postgres_server.run(f"""
            create table {schema}.{table} ({columns}) with (fillfactor = 100);
            insert into {schema}.{table} select {values} from generate_series(1, {count}) i where {mine};
            alter table {schema}.{table} add primary key ({key})""", database)
        postgres_server.run(f"vacuum analyze {schema}.{table}", database)
    roles = f"{server.USER}, {server.TRUSTED_USER}"
    postgres_server.run(f"grant usage on schema {schema} to {roles}; grant all on all tables in schema {schema} to {roles}", database)


def make_coordinator(coordinator, postgres_server):
    """postgres_fdw as its manual would tune it: the partitions are asked at the same time, for many rows at once, and as far as PostgreSQL 15
    can for joins and groups partition by partition. It logs in to the shards without proof: each of its sessions does so anew."""
    server.make_roles(coordinator)
    coordinator.run(f"create database {COORDINATOR}")
    coordinator.run("create extension postgres_fdw", COORDINATOR)
    for number, shard in enumerate(shards()):
        coordinator.run(f"""
            create server s{number} foreign data wrapper postgres_fdw options (host '{postgres_server.host}', port '{postgres_server.port}',
                dbname '{shard}', sslmode 'disable', async_capable 'true', fetch_size '10000', batch_size '1000');
            create user mapping for {server.USER} server s{number} options (user '{server.TRUSTED_USER}', password_required 'false');
            create user mapping for current_user server s{number} options (user '{postgres_server.user}', password '{postgres_server.password}')
            """, COORDINATOR)
    for table, (columns, key, _) in TABLES.items():
        coordinator.run(f"create table {table} ({columns}) partition by hash ({key})", COORDINATOR)
        for number in range(SHARDS):
            coordinator.run(f"""create foreign table {table}_{number} partition of {table} for values with (modulus {SHARDS}, remainder {number})
                server s{number} options (schema_name '{FDW_SCHEMA}', table_name '{table}')""", COORDINATOR)
        coordinator.run(f"analyze {table}", COORDINATOR)
    coordinator.run(f"grant all on all tables in schema public to {server.USER}", COORDINATOR)


def empty_intake(postgres_server):
    """Past every contender."""
    postgres_server.run("truncate intake", server.DATABASE)
    for shard in shards():
        postgres_server.run(f"truncate public.intake, {FDW_SCHEMA}.intake", shard)
