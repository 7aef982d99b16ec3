#!/usr/bin/env bash
# Golden plans: runs the golden tests; with --accept the files are rewritten with what the code now says. Read the
# difference (git diff) before committing it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case ${1:-} in
  --accept) export TESSERA_GOLDEN_ACCEPT=1 ;;
  "") ;;
  *) die "usage: ./dev golden [--accept]" ;;
esac
"$ROOT/scripts/install.sh" build
build_preset release router_test
cd "$ROOT"
build/release/router/router_test --gtest_filter='*Golden*:*golden*'
