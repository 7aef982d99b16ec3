#!/usr/bin/env bash
# pgbench in its three protocols: with keys of many shards, and with its own tables on one.
set -uo pipefail
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PGSSLMODE=disable PGCONNECT_TIMEOUT=10

for i in $(seq 0 99); do echo "delete from items where id = $((DRIVER_BASE + i)); insert into items (id, qty) values ($((DRIVER_BASE + i)), 0);"; done |
  psql -Xq -v ON_ERROR_STOP=1 || { echo "not ok - load: psql failed"; exit 1; }

cat >"$work/read.sql" <<SQL
\\set id random($DRIVER_BASE, $((DRIVER_BASE + 99)))
select qty from items where id = :id;
SQL
cat >"$work/write.sql" <<SQL
\\set id random($DRIVER_BASE, $((DRIVER_BASE + 99)))
begin;
update items set qty = qty + 1 where id = :id;
select qty from items where id = :id;
end;
SQL
cat >"$work/pipeline.sql" <<SQL
\\set id random($DRIVER_BASE, $((DRIVER_BASE + 99)))
\\startpipeline
select qty from items where id = :id;
update items set qty = qty + 1 where id = :id;
\\endpipeline
SQL

cat >"$work/rollback.sql" <<SQL
\\set id random($DRIVER_BASE, $((DRIVER_BASE + 99)))
begin;
update items set qty = qty + 1000000 where id = :id;
rollback;
SQL
cat >"$work/crud.sql" <<SQL
\\set id $DRIVER_BASE + 100 + :client_id * 50 + random(0, 49)
insert into items (id, owner_id, name, qty) values (:id, 1, 'n', 5);
update items set qty = qty + 1 where id = :id;
select name, qty from items where id = :id;
delete from items where id = :id;
SQL
echo 'select 1/0;' >"$work/error.sql"

# check name expected-pattern output
check() {
  if grep -qE "$2" <<<"$3"; then
    echo "ok - $1"
  else
    echo "not ok - $1: expected $2, found $(tail -5 <<<"$3" | tr '\n' ' ')"
    failed=1
  fi
}
run() {
  local name=$1 out
  shift
  out=$(pgbench -n -c 8 -j 2 -t 100 "$@" 2>&1)
  grep -qE 'failed transactions: [1-9]|error' <<<"$out" && out="${out//processed/FAILED}"
  check "$name" 'processed: 800/800' "$out"
}
run "connect plain" -C -M simple -f "$work/read.sql"
PGSSLMODE=verify-full run "connect TLS" -M prepared -f "$work/read.sql"
for protocol in simple extended; do
  run "$protocol read" -M $protocol -f "$work/read.sql"
  run "$protocol transaction" -M $protocol -f "$work/write.sql"
done
run "prepared statements" -M prepared -f "$work/read.sql"
run "transaction commit" -M prepared -f "$work/write.sql"
run "transaction rollback" -M prepared -f "$work/rollback.sql"
run "crud by key" -M prepared -f "$work/crud.sql"
run "pipeline" -M extended -f "$work/pipeline.sql"
run "prepared pipeline" -M prepared -f "$work/pipeline.sql"

# Every update must have happened once: 3 protocols and 2 pipelines of 800.
for i in $(seq 0 99); do echo "select qty from items where id = $((DRIVER_BASE + i));"; done >"$work/sum.sql"
sum=0
while read -r qty; do sum=$((sum + qty)); done < <(psql -XqAt -f "$work/sum.sql")
check "no update lost or doubled" '^4000$' "$sum"

# Its own tables live on one shard: filled by COPY, then its own transaction.
check "copy" '^done in' "$(pgbench -i -q 2>&1)"
run "TPC-B on one shard" -M prepared
balances=$(psql -XqAt -c 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), (select count(*) from pgbench_history)')
check "balances agree" '^t\|800$' "$balances"

# pgbench shows an error's text, not its SQLSTATE.
check "errors" 'division by zero' "$(pgbench -n -t 1 -f "$work/error.sql" 2>&1)"

# It cancels at SIGINT only while it fills its tables. A background job ignores SIGINT, so a small Python parent restores it.
check "cancel" 'canceling statement due to user request' "$(/usr/bin/python3 - 2>&1 <<'PY'
import signal, subprocess, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
child = subprocess.Popen(["pgbench", "-i", "-I", "dtG", "-s", "500"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
time.sleep(1)
child.send_signal(signal.SIGINT)
print(child.communicate(timeout=10)[0])
PY
)"
exit $failed
