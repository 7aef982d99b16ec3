#!/usr/bin/env bash
# pgbench through Tessera, PgBouncer and HAProxy in turns, statements over four shards, and microbenchmarks: ./dev bench [--quick] [--only groups] …; see --help and docs/benchmarks.md.
# TESSERA_BINARY=… measures that binary (and the micro_bench and floors beside it) and builds nothing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case " $* " in *" --help "* | *" -h "*) exec "$PYTHON" "$ROOT/tests/bench/run.py" --help ;; esac
if [ -n "${TESSERA_BINARY:-}" ]; then
  "$ROOT/scripts/install.sh" bench
else
  "$ROOT/scripts/install.sh" build bench
  build_preset release -DTESSERA_BENCH=ON tessera micro_bench floors
fi
exec "$PYTHON" "$ROOT/tests/bench/run.py" "$@"
