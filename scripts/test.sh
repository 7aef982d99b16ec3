#!/usr/bin/env bash
# Everything that must hold: builds the release preset and runs all tests of ctest, real databases included.
# Arguments go to ctest: ./dev test -L unit, ./dev test -R integration.transparency
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$ROOT/scripts/install.sh" build test
say "building"
build_preset release all
say "testing"
cd "$ROOT/build/release"
# Two at a time at most: the integration tests bring their own servers.
exec ctest --output-on-failure --no-tests=error -j 2 "$@"
