#!/usr/bin/env bash
# psql: scripts, meta-commands, \copy, \watch-like cancel by Ctrl-C.
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

check "crud by key" '^6:DELETE 1$' "$(p <<SQL | tr '\n' ':' | sed 's/:$//'
delete from items where id = $base;
insert into items (id, owner_id, name, qty) values ($base, 1, 'it''s', 5);
update items set qty = qty + 1 where id = $base;
select qty from items where id = $base;
\set QUIET off
delete from items where id = $base;
SQL
)"
check "values" '^\|é漢\|\{"a": \[1, null\]\}$' "$(p <<SQL
insert into items (id, name, data) values ($base, 'é漢', '{"a": [1, null]}');
select owner_id, name, data from items where id = $base;
SQL
)"
check "prepared statements" '^é漢$' "$(p -c "prepare q as select name from items where id = \$1" -c "execute q($base)")"
check "transaction commit" '^21$' "$(p -c "begin; update items set qty = 20 where id = $base; savepoint s; update items set qty = 21 where id = $base; commit" \
  -c "select qty from items where id = $base")"
check "transaction rollback" '^21$' "$(p -c begin -c "update items set qty = 99 where id = $base" -c rollback -c "select qty from items where id = $base")"
check "describe a table (\\d)" 'items_pkey.*PRIMARY KEY' "$(p -P tuples_only=off -c '\d items')"
check "list of tables (\\dt)" 'public\|imports\|table' "$(p -c '\dt')"
check "list of databases (\\l)" "$PGDATABASE" "$(p -c '\l')"

seq "$base" $((base + 999)) | sed 's/.*/&,row &/' >"$work/in.csv"
check "copy" '^COPY 1000:COPY 1000$' "$(p -c "delete from imports where id between $base and $((base + 999))" -c '\set QUIET off' \
  -c "\\copy imports from '$work/in.csv' csv" \
  -c "\\copy (select * from imports where id between $base and $((base + 999)) order by id) to '$work/out.csv' csv" | tr '\n' ':' | sed 's/:$//')"
check "copy is complete" '^same$' "$(cmp "$work/in.csv" "$work/out.csv" && echo same)"

sqlstate() { psql -XqAt -v VERBOSITY=sqlstate -c "$1" 2>&1; }
check "error 23505" '23505' "$(sqlstate "insert into items (id) values ($base)")"
check "error 42601" '42601' "$(sqlstate 'selekt 1')"
check "error 22012" '22012' "$(sqlstate 'select 1/0')"
check "failed transaction" '22012.*25P02.*again' "$(psql -XqAt -v VERBOSITY=sqlstate 2>&1 <<'SQL' | tr '\n' ' '
begin;
select 1/0;
select 1;
rollback;
select 'again';
SQL
)"
check "rows in pieces (FETCH_COUNT)" '^1000$' "$(p -v FETCH_COUNT=100 -c 'select generate_series(1, 1000)' | wc -l)"

# Ctrl-C: psql sends a CancelRequest on SIGINT and goes on. A non-interactive shell starts background jobs with SIGINT ignored, so a small
# Python parent restores it.
cancelled=$(/usr/bin/python3 - 2>&1 <<'PY'
import signal, subprocess, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
child = subprocess.Popen(["psql", "-XAt", "-v", "VERBOSITY=sqlstate"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
child.stdin.write("select pg_sleep(30);\n")
child.stdin.flush()
time.sleep(0.7)
child.send_signal(signal.SIGINT)
started = time.monotonic()
out, _ = child.communicate("select 'again';\n", timeout=20)
print(out if time.monotonic() - started < 10 else "late")
PY
)
# Reading a script, psql ends at an interrupt; the server's answer is what counts.
check "cancel (Ctrl-C)" '57014' "$cancelled"
exit $failed
