#!/usr/bin/env bash
# Makes cmake/release.profdata anew: which way the code goes when it works, for the optimizer (docs/decisions/0007-profile.md).
# Worth it after larger changes of the hot path. Takes ten minutes; the file belongs into the commit.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$ROOT/scripts/install.sh" build test bench
say "building with counters"
build_preset profile tessera
counts=$ROOT/build/profile/counts
rm -rf "$counts"
export TESSERA_BINARY=$ROOT/build/profile/tessera LLVM_PROFILE_FILE=$counts/%m-%p.profraw
say "driver tests and a short run of the benchmark"
(cd "$ROOT/tests" && "$PYTHON" -m pytest -q integration/test_drivers.py)
"$ROOT/scripts/bench.sh" --quick --only select,tls,shapes,reconnect,bulk --contenders tessera,tessera4
llvm-profdata-19 merge --sparse -o "$ROOT/cmake/release.profdata" "$counts"/*.profraw
say "cmake/release.profdata is new; ./dev build uses it"
