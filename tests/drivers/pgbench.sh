#!/usr/bin/env bash
# pgbench in its three protocols, with keys of many shards.
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

run() {
  local name=$1 out
  shift
  out=$(pgbench -n -c 8 -j 2 -t 100 "$@" 2>&1)
  if grep -q 'processed: 800/800' <<<"$out" && ! grep -qE 'failed transactions: [1-9]|error' <<<"$out"; then
    echo "ok - $name"
  else
    echo "not ok - $name: $(tail -5 <<<"$out" | tr '\n' ' ')"
    failed=1
  fi
}
for protocol in simple extended prepared; do
  run "$protocol read" -M $protocol -f "$work/read.sql"
  run "$protocol transaction" -M $protocol -f "$work/write.sql"
done
run "extended pipeline" -M extended -f "$work/pipeline.sql"
run "prepared pipeline" -M prepared -f "$work/pipeline.sql"
run "reconnecting" -C -M simple -f "$work/read.sql"
PGSSLMODE=require run "TLS" -M prepared -f "$work/read.sql"

# Every update must have happened once: 3 protocols and 2 pipelines of 800.
sum=0
for i in $(seq 0 99); do echo "select qty from items where id = $((DRIVER_BASE + i));"; done >"$work/sum.sql"
while read -r qty; do sum=$((sum + qty)); done < <(psql -XqAt -f "$work/sum.sql")
if [ "$sum" = 4000 ]; then echo "ok - no update lost or doubled"; else
  echo "not ok - no update lost or doubled: $sum instead of 4000"
  failed=1
fi
exit $failed
