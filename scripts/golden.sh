#!/usr/bin/env bash
# Golden files (plans, parsed statements, the configuration's messages and schema): runs their tests; with --accept the
# files are rewritten with what the code now says. Read the difference (git diff) before committing it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case ${1:-} in
  --accept) export TESSERA_ACCEPT=1 ;;
  "") ;;
  *) die "usage: ./dev golden [--accept]" ;;
esac
"$ROOT/scripts/install.sh" build
tests=(config/config_test parser/postgres/parser_postgres_test router/router_test)
build_preset release "${tests[@]##*/}"
cd "$ROOT"
for test in "${tests[@]}"; do
  "build/release/$test" --gtest_brief=1 --gtest_filter='*Golden*:BadConfiguration*:*CheckedInFile*'
done
