#!/usr/bin/env bash
# ./dev demo: four real PostgreSQL shards (the first with a streaming replica) and Tessera in front of them, a small shop
# loaded through it, and where a handful of statements went. Leaves everything running; harmless when run again.
# ./dev demo-down ends it and removes its data. Ports: TESSERA_DEMO_PORT (6432), TESSERA_DEMO_ADMIN_PORT (7432).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
port=${TESSERA_DEMO_PORT:-6432}
admin_port=${TESSERA_DEMO_ADMIN_PORT:-7432}
demo=$ROOT/.demo
tessera=$ROOT/build/release/tessera
users=200
mkdir -p "$demo"
exec 9>"$demo/lock"
flock -n 9 || die "another ./dev demo or demo-down is at work"

cluster() { "$ROOT/scripts/postgres-cluster.sh" --place .demo "$@"; }

# The process id of the demo's own Tessera, if it runs.
tessera_pid() {
  local pid
  [ -f "$demo/tessera.pid" ] || return 1
  pid=$(cat "$demo/tessera.pid")
  grep -qaF "$demo/tessera.yaml" "/proc/$pid/cmdline" 2>/dev/null || return 1
  echo "$pid"
}

down() {
  local pid
  if pid=$(tessera_pid); then
    say "ending Tessera ($pid)"
    kill -TERM "$pid"
    for _ in $(seq 100); do
      [ -d "/proc/$pid" ] || break
      sleep 0.1
    done
    if [ -d "/proc/$pid" ]; then
      say "it did not end within 10 s; killing it"
      kill -KILL "$pid"
    fi
  fi
  local data=$demo
  if [ -e /usr/lib/postgresql/15/bin/pg_ctl ]; then
    say "ending the shards and removing their data"
    cluster destroy
    data=$(cluster where)
  fi
  # The data are in the checkout, or in /tmp where the user postgres cannot enter it.
  rm -rf "${data:?}" "${demo:?}"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
check_ports() {
  tessera_pid >/dev/null && return 0
  local name
  for name in "$port PostgreSQL TESSERA_DEMO_PORT" "$admin_port admin TESSERA_DEMO_ADMIN_PORT"; do
    # shellcheck disable=SC2086 # three words
    set -- $name
    port_is_free "$1" || die "port $1 on 127.0.0.1 is taken by another program, and the demo wants it ($2). Choose another: $3=… ./dev demo"
  done
}

# psql on a shard, over its Unix socket, as its superuser.
on_shard() {
  local name=$1
  shift
  local user_switch=()
  [ "$(id -u)" != 0 ] || user_switch=(runuser -u postgres --)
  (cd / && "${user_switch[@]}" psql -XqAt -v ON_ERROR_STOP=1 -h "${socket[$name]}" -p "${shard_port[$name]}" -U postgres "$@")
}
through_tessera() { PGPASSWORD=demo psql -Xq -h 127.0.0.1 -p "$port" -U app -d shop "$@"; }

declare -A shard_port socket
start_shards() {
  local name number directory listing
  listing=$(cluster start s0 s1 s2 s3 s0r:s0)
  while read -r name number directory; do
    shard_port[$name]=$number
    socket[$name]=$directory
  done <<<"$listing"
  for name in s0 s1 s2 s3; do
    [ "$(on_shard "$name" -d postgres -c "select count(*) from pg_database where datname = 'shop'")" = 0 ] || continue
    on_shard "$name" -d postgres -c "create role app login password 'demo'"
    on_shard "$name" -d postgres -c "create database shop owner app"
    { echo "set role app;"; cat "$ROOT/scripts/demo/schema.sql"; } | on_shard "$name" -d shop -1 -f -
  done
}

write_config() {
  local ca certificate key
  read -r ca certificate key < <(cluster certificate)
  cat >"$demo/tessera.yaml" <<YAML
# Written by ./dev demo. Every key: docs/configuration.md
listen:
  postgres: 127.0.0.1:$port
  tls: {mode: prefer, certificate: $certificate, private_key: $key}
admin: {listen: "127.0.0.1:$admin_port", tokens: [{role: admin, token: demo}], console_admins: [app]}
databases:
  shop:
    engine: postgres
    backend: {dbname: shop, tls: verify-full, ca: $ca}
    shards:
      s0: {primary: "127.0.0.1:${shard_port[s0]}"}
      s1: {primary: "127.0.0.1:${shard_port[s1]}"}
      s2: {primary: "127.0.0.1:${shard_port[s2]}"}
      s3: {primary: "127.0.0.1:${shard_port[s3]}"}
    default_shard: s0
    rules:
      by_user: {type: hash, function: postgres, buckets: 1024, shards: [s0, s1, s2, s3]}
    tables:
      users: {rule: by_user, key: id, key_type: bigint}
      orders: {rule: by_user, key: user_id, key_type: bigint}
      order_items: {rule: by_user, key: user_id, key_type: bigint}
      countries: {reference: true}
    users:
      - {name: app, password: demo}
YAML
  chmod 600 "$demo/tessera.yaml"
}

ready() {
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$admin_port" || return 1
  printf 'GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n' "$admin_port" >&3
  read -r answer <&3 || true
  exec 3>&-
  [[ $answer == *" 200 "* ]]
}
start_tessera() {
  tessera_pid >/dev/null && return 0
  "$tessera" check "$demo/tessera.yaml" >/dev/null || die "the demo's configuration was refused"
  # Its own session: closing the terminal does not end it. The lock is not for it.
  setsid nohup "$tessera" serve --config "$demo/tessera.yaml" >"$demo/tessera.log" 2>&1 </dev/null 9>&- &
  local started=$!
  echo "$started" >"$demo/tessera.pid"
  for _ in $(seq 150); do
    if (ready) 2>/dev/null; then return 0; fi
    kill -0 "$started" 2>/dev/null || break  # not tessera_pid: it may not be Tessera yet, but the shell that becomes it
    sleep 0.1
  done
  tail -20 "$demo/tessera.log" >&2
  die "Tessera did not become ready; its log is .demo/tessera.log"
}

load() {
  local loaded
  loaded=$(for name in s0 s1 s2 s3; do on_shard "$name" -d shop -c "select count(*) from users"; done | paste -sd+ | bc_sum)
  # Rows that were added since then are welcome.
  if [ "$loaded" -ge "$users" ]; then return 0; fi
  [ "$loaded" = 0 ] || die "the shop is loaded in part ($loaded of $users users): ./dev demo-down, then again"
  say "loading $users users with their orders, one INSERT at a time, through Tessera"
  awk -v users=$users -f "$ROOT/scripts/demo/rows.awk" </dev/null | through_tessera -f - >/dev/null
}
bc_sum() { awk -F+ '{ for (i = 1; i <= NF; i++) sum += $i; print sum + 0 }'; }

show() {
  local sql name
  say "where statements go (EXPLAIN (TESSERA), nothing is run)"
  while IFS= read -r sql; do
    printf '\n  %s\n' "$sql"
    { through_tessera -At -c "explain (tessera) $sql" 2>&1 || echo "(refused)"; } | sed 's/^/      /'
  done <<'SQL'
select name, country from users where id = 42
select * from orders o join order_items i on i.user_id = o.user_id and i.order_id = o.id where o.user_id = 7
update users set name = 'Zoe' where id = 43
select u.name, c.name from users u join countries c on c.code = u.country where u.id = 44
select id from users
SQL
  printf '\n'
  say "and one of them run"
  through_tessera -c "select o.id, o.placed, o.total, count(*) as lines from orders o join order_items i on i.user_id = o.user_id and i.order_id = o.id where o.user_id = 7 group by 1, 2, 3, o.user_id"
  say "rows per shard"
  printf '  %-6s %-7s %-7s %-12s %-10s\n' shard users orders order_items countries
  for name in s0 s1 s2 s3; do
    on_shard "$name" -d shop -F ' ' -c "select '$name', (select count(*) from users), (select count(*) from orders), (select count(*) from order_items), (select count(*) from countries)" |
      { read -r a b c d e; printf '  %-6s %-7s %-7s %-12s %-10s\n' "$a" "$b" "$c" "$d" "$e"; }
  done
  cat <<TEXT

Tessera is running (process $(tessera_pid), log .demo/tessera.log, configuration .demo/tessera.yaml).

  psql "postgresql://app:demo@127.0.0.1:$port/shop"
  psql "postgresql://app:demo@127.0.0.1:$port/pgbouncer"        the console: SHOW POOLS, SHOW TESSERA SHARDS, …
  curl http://127.0.0.1:$admin_port/readyz        metrics: /metrics        token of the admin API: demo
  the shards themselves, user app, password demo, database shop:
    s0 127.0.0.1:${shard_port[s0]} (replica ${shard_port[s0r]}, not read from in this version)   s1 127.0.0.1:${shard_port[s1]}   s2 127.0.0.1:${shard_port[s2]}   s3 127.0.0.1:${shard_port[s3]}

./dev demo-down ends it all.
TEXT
}

case ${1:-up} in
  up) ;;
  down)
    down
    exit 0
    ;;
  *) die "usage: ./dev demo, ./dev demo-down" ;;
esac
"$ROOT/scripts/install.sh" build demo
check_ports
say "building (a few minutes the first time)"
build_preset release tessera
say "starting four PostgreSQL servers and a replica"
start_shards
if tessera_pid >/dev/null; then
  # Its ports are those that it was started with.
  port=$(sed -n 's/^  postgres: 127.0.0.1:\([0-9]*\)$/\1/p' "$demo/tessera.yaml")
  admin_port=$(sed -n 's/^admin: {listen: "127.0.0.1:\([0-9]*\)".*/\1/p' "$demo/tessera.yaml")
else
  write_config
fi
start_tessera
load
show
