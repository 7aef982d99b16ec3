#!/usr/bin/env bash
# psql: scripts, meta-commands, \copy, Ctrl-C.
set -uo pipefail
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
base=$DRIVER_BASE
export PGSSLMODE=disable PGCONNECT_TIMEOUT=10

p() { psql -XqAt -v ON_ERROR_STOP=1 "$@" 2>&1; }
# check name expected-pattern output
check() {
  if [[ $3 =~ $2 ]]; then
    echo "ok - $1"
  else
    echo "not ok - $1: expected $2, found $(tr '\n' ' ' <<<"$3" | cut -c1-300)"
    failed=1
  fi
}

check "connect plain" '^1$' "$(p -c 'select 1')"
check "connect TLS" 'SSL connection' "$(PGSSLMODE=verify-full p -c '\conninfo')"

check "crud by key" '^(6:DELETE 1:){20}$' "$(for id in $(seq "$base" $((base + 19))); do
  cat <<SQL
delete from items where id = $id;
insert into items (id, owner_id, name, qty) values ($id, 1, 'it''s', 5);
update items set qty = qty + 1 where id = $id;
select qty from items where id = $id;
\set QUIET off
delete from items where id = $id;
\set QUIET on
SQL
done | p | tr '\n' ':')"
check "values" '^\|é漢\|\{"a": \[1, null\]\}\|1000000$' "$(p <<SQL
insert into items (id, name, data) values ($base, 'é漢', '{"a": [1, null]}');
select owner_id, name, data, length(repeat('x', 1000000)) from items where id = $base;
SQL
)"
check "prepared statements" '^é漢:once$' "$(p -c "insert into items (id, name) values ($((base + 1)), 'once')" -c "prepare q as select name from items where id = \$1" \
  -c "execute q($base)" -c "execute q($((base + 1)))" -c 'deallocate q' | tr '\n' ':' | sed 's/:$//')"
check "batch" '^7:8$' "$(p -c "update items set qty = 7 where id = $base; select qty from items where id = $base; update items set qty = 8 where id = $base; \
  select qty from items where id = $base" | tr '\n' ':' | sed 's/:$//')"
check "transaction commit" '^21$' "$(p -c "begin; update items set qty = 20 where id = $base; savepoint s; update items set qty = 21 where id = $base; commit" \
  -c "select qty from items where id = $base")"
check "transaction rollback" '^21$' "$(p -c begin -c "update items set qty = 99 where id = $base" -c rollback -c "select qty from items where id = $base")"
check "describe a table (\\d)" 'items_pkey.*PRIMARY KEY' "$(p -P tuples_only=off -c '\d items')"
check "list of tables (\\dt)" 'public\|items\|table' "$(p -c '\dt')"
check "list of databases (\\l)" "$PGDATABASE" "$(p -c '\l')"

seq "$base" $((base + 999)) | sed 's/.*/&,row &/' >"$work/in.csv"
check "copy" '^COPY 1000:COPY 1000$' "$(p -c "delete from imports where id between $base and $((base + 999))" -c '\set QUIET off' \
  -c "\\copy imports from '$work/in.csv' csv" \
  -c "\\copy (select * from imports where id between $base and $((base + 999)) order by id) to '$work/out.csv' csv" | tr '\n' ':' | sed 's/:$//')"
check "copy is complete" '^same$' "$(cmp "$work/in.csv" "$work/out.csv" && echo same)"

sqlstate() { psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1 | tr '\n' ' '; }
check "errors" '23505.*42601.*22012' "$(sqlstate "insert into items (id) values ($base)"; sqlstate 'selekt 1'; sqlstate 'select 1/0')"
check "failed transaction" '22012.*25P02.*again' "$(psql -XqAt -v VERBOSITY=sqlstate 2>&1 <<'SQL' | tr '\n' ' '
begin;
select 1/0;
select 1;
rollback;
select 'again';
SQL
)"
check "rows in pieces (FETCH_COUNT)" '^1000$' "$(p -v FETCH_COUNT=100 -c 'select generate_series(1, 1000)' | wc -l)"

# All of it, or refused with 0A000 and nothing. Without ON_ERROR_STOP: after an error the COMMIT at the end is a ROLLBACK.
for id in $(seq $((base + 400)) $((base + 419))); do echo "delete from items where id = $id; insert into items (id, qty) values ($id, 0);"; done |
  psql -Xq -v ON_ERROR_STOP=1
written=$({
  echo 'begin;'
  for id in $(seq $((base + 400)) $((base + 419))); do echo "update items set qty = 1 where id = $id;"; done
  echo 'commit;'
} | psql -XqAt -v VERBOSITY=sqlstate 2>&1 | sed 's/.*ERROR: *//' | sort -u | tr '\n' ' ')
seen=$(for id in $(seq $((base + 400)) $((base + 419))); do echo "select qty from items where id = $id;"; done | p | sort | uniq -c | tr -s ' \n' ' ')
check "several shards" '^(: 20 1 |0A000 (25P02 )?: 20 0 )$' "$written:$seen"

# Ctrl-C on a terminal: psql sends a CancelRequest and goes on. Python is the terminal.
cancelled=$(/usr/bin/python3 - 2>&1 <<'PY'
import os, pty, select, sys, time

pid, terminal = pty.fork()
if pid == 0:
    os.execvp("psql", ["psql", "-XAtn", "-P", "pager=off", "-v", "VERBOSITY=sqlstate"])
seen = ""

def until(text):
    global seen
    end = time.monotonic() + 10
    while text not in seen:
        if not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit(f"no {text} in {seen}")
        seen += os.read(terminal, 4096).decode()

os.write(terminal, b"select 'rea' || 'dy';\n")
until("ready")
os.write(terminal, b"select pg_sleep(30);\n")
time.sleep(0.7)
os.write(terminal, b"\x03")
until("57014")
os.write(terminal, b"select 'aga' || 'in';\n")
until("again")
os.write(terminal, b"\\q\n")
os.waitpid(pid, 0)
print(seen)
PY
)
check "cancel" '57014.*again' "$cancelled"
exit $failed
