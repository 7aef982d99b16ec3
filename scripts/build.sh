#!/usr/bin/env bash
# scripts/build.sh [preset] [targets…]: installs the toolchain and builds. Default: release, all targets.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
preset=${1:-release}
[ $# -gt 0 ] && shift
case $preset in release | debug | asan | tsan) ;; *) die "no preset '$preset': release, debug, asan, tsan" ;; esac
"$ROOT/scripts/install.sh" build
[ $# -gt 0 ] || set -- all
build_preset "$preset" "$@"
