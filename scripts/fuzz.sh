#!/usr/bin/env bash
# Runs every libFuzzer target, as many at a time as there are cores: ./dev fuzz [--short | --seconds N] [targets…]
# Corpora are kept under .cache/fuzz/<target>; permanent cases live in the repository at */fuzz_cases/<target>. A crash ends the run
# and leaves its input in .cache/fuzz: add it to the permanent cases with its fix.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
seconds=60
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --short) seconds=15 ;;
    --seconds)
      shift
      seconds=${1:?--seconds needs a number}
      ;;
    -*) die "usage: ./dev fuzz [--short | --seconds N] [targets…]" ;;
    *) targets+=("$1") ;;
  esac
  shift
done
"$ROOT/scripts/install.sh" build
if [ ${#targets[@]} = 0 ]; then
  mapfile -t targets < <(cd "$ROOT" && git ls-files --cached --others --exclude-standard -- '*_fuzz.cpp' | xargs -r -n1 basename -s .cpp | sort)
fi
[ ${#targets[@]} -gt 0 ] || die "there is no *_fuzz.cpp"
say "building ${targets[*]}"
build_preset asan "${targets[@]}"

# Runs one target; what it has to say comes at its end, in one piece.
fuzz() {
  local target=$1 program corpus=$ROOT/.cache/fuzz/$1 log=$ROOT/.cache/fuzz/$1.log cases=()
  program=$(find "$ROOT/build/asan" -type f -name "$target" -perm -u+x | head -1)
  [ -n "$program" ] || die "$target was not built"
  mkdir -p "$corpus"
  while IFS= read -r folder; do cases+=("$folder"); done < <(find "$ROOT" -path "$ROOT/build" -prune -o -type d -path "*/fuzz_cases/$target" -print)
  if ! "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$ROOT/.cache/fuzz/$target-" \
    -print_final_stats=1 "$corpus" "${cases[@]}" >"$log" 2>&1; then
    tail -60 "$log"
    die "$target failed; its input lies in .cache/fuzz"
  fi
  say "$target:" "$(grep -E 'number_of_executed_units|peak_rss' "$log" | sed 's/^stat:://' | tr -s ' \n' ' ')"
}

say "fuzzing, $seconds s each, $(nproc) at a time"
running=0
for target in "${targets[@]}"; do
  if [ "$running" -ge "$(nproc)" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
  [ -z "${failed:-}" ] || break
  fuzz "$target" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
[ -z "${failed:-}" ] || exit 1
say "${#targets[@]} fuzz targets ran without a report"
