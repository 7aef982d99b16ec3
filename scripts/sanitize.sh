#!/usr/bin/env bash
# The unit tests under the sanitizers: ./dev sanitize [asan | tsan] [ctest args]; without a name, one after the other.
# asan: addresses, leaks and undefined behaviour, in all of them; tsan: data races, in those that start threads. Nothing else is built.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
presets=(asan tsan)
case ${1:-} in
  asan | tsan)
    presets=("$1")
    shift
    ;;
esac
"$ROOT/scripts/install.sh" build
# A report ends the test; what lies on the stack of a function that has returned counts as well.
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:check_initialization_order=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
ASAN_SYMBOLIZER_PATH=$(command -v llvm-symbolizer-19)
export ASAN_SYMBOLIZER_PATH TSAN_SYMBOLIZER_PATH=$ASAN_SYMBOLIZER_PATH
declare -A labels=([asan]=unit [tsan]=threaded)
for preset in "${presets[@]}"; do
  label=${labels[$preset]}
  say "building the $label tests, $preset"
  build_preset "$preset" "${label}_tests"
  say "testing, $preset"
  (cd "$ROOT/build/$preset" && ctest --output-on-failure --no-tests=error -j 2 -L "$label" "$@")
done
