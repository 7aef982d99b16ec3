#!/usr/bin/env bash
# Installs the Debian packages of one or more groups: scripts/install.sh build test demo drivers bench
# Fast and silent when everything is there; apt is asked only for what is missing. Nothing that runs on the
# machine is touched: a PostgreSQL installed here gets no cluster of its own.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# shellcheck disable=SC2034 # the groups are read by name: ${!group}
{
# libboost-dev is 1.74: libmysqlcppconn-dev depends on it, and it conflicts with libboost1.81-dev.
build="clang-19 lld-19 llvm-19 libclang-rt-19-dev clang-format-19 ninja-build cmake ccache git ca-certificates
  libboost-dev libboost-system-dev libpq-dev libidn-dev libpg-query-dev libprotobuf-c-dev libyaml-cpp-dev libssl-dev liburing-dev
  libsqlite3-dev prometheus-cpp-dev libfmt-dev libspdlog-dev libcli11-dev nlohmann-json3-dev libgtest-dev libgmock-dev"
servers="postgresql-15 postgresql-contrib postgresql-client-15 openssl python3"
test="$servers python3-psycopg python3-pytest python3-psycopg2 python3-yaml shellcheck nodejs npm"
demo="$servers"
drivers="$test python3-asyncpg python3-sqlalchemy openjdk-17-jdk-headless libpostgresql-jdbc-java libpqxx-dev g++
  libdbd-pg-perl golang-go golang-github-lib-pq-dev golang-github-jackc-pgx-v4-dev"
bench="$servers pgbouncer haproxy strace linux-perf libbenchmark-dev"
}

is_installed() {
  dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed && return 0
  # Node from NodeSource brings npm along and conflicts with Debian's package of that name.
  [ "$1" = npm ] && command -v npm >/dev/null
}

# Keeps the package from making and starting a server on port 5432: it obeys createcluster.conf. The owner's own file,
# or the package's default, stands there again afterwards.
createcluster=/etc/postgresql-common/createcluster.conf
mark="# written by Tessera's scripts/install.sh for the time of one installation"
is_ours() { [ -e "$1" ] && grep -qF "$mark" "$1"; }
hold_back_cluster() {
  is_installed postgresql-15 && return 0
  as_root mkdir -p /etc/postgresql-common
  if [ -e "$createcluster" ] && ! is_ours "$createcluster"; then as_root cp -p "$createcluster" "$createcluster.saved"; fi
  printf '%s\ncreate_main_cluster = false\n' "$mark" | as_root tee "$createcluster" >/dev/null
}
release_cluster() {
  is_ours "$createcluster" || return 0
  local default=/usr/share/postgresql-common/createcluster.conf
  if [ -e "$createcluster.saved" ]; then
    as_root mv "$createcluster.saved" "$createcluster"
  elif [ -e "$default" ]; then
    as_root cp "$default" "$createcluster"
  else
    as_root rm -f "$createcluster"
  fi
}

# pgbouncer and haproxy start their daemons on installation; a policy of "not now" keeps them from it.
policy=/usr/sbin/policy-rc.d
hold_back_services() {
  [ -e "$policy" ] && return 0
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}
release_services() {
  if is_ours "$policy"; then as_root rm -f "$policy"; fi
}

[ $# -gt 0 ] || die "which group? build, test, demo, drivers, bench"
missing=""
for group in "$@"; do
  case $group in build | test | demo | drivers | bench) ;; *) die "no group '$group': build, test, demo, drivers, bench" ;; esac
  for package in ${!group}; do
    is_installed "$package" || case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
  done
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || die "these packages are missing and apt-get is not here to install them:$missing"
say "installing:$missing"
trap 'release_cluster; release_services' EXIT
hold_back_cluster
hold_back_services
export DEBIAN_FRONTEND=noninteractive
as_root apt-get update -q -o Acquire::Retries=3 >/dev/null
# shellcheck disable=SC2086 # a list of words
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 $missing
