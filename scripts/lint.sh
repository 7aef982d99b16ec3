#!/usr/bin/env bash
# Taste made executable: the floors of the house, formatting, shell scripts, forgotten notes, sizes, configuration files.
# Every finding is printed; one is enough to fail.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$ROOT/scripts/install.sh" build test
cd "$ROOT"
failures=0
check() {
  local name=$1
  shift
  if "$@"; then
    echo "ok     $name"
  else
    echo "FAILED $name"
    failures=$((failures + 1))
  fi
}

cpp_files() { git ls-files -z --cached --others --exclude-standard -- '*.cpp' '*.hpp'; }
formatting() {
  local file bad=0
  while IFS= read -r -d '' file; do
    clang-format-19 --dry-run --Werror "$file" >/dev/null 2>&1 || { echo "       $file" && bad=1; }
  done < <(cpp_files)
  return $bad
}
shell_scripts() {
  # shellcheck disable=SC2046 # our file names have no spaces
  shellcheck -x dev .ci/run $(git ls-files --cached --others --exclude-standard -- '*.sh')
}
python_files() { git ls-files -z --cached --others --exclude-standard -- '*.py' | xargs -0 -r "$PYTHON" scripts/lint.py syntax; }

check "includes stay on their floors" "$PYTHON" scripts/lint.py floors
check "no forgotten notes, no paths of one machine" "$PYTHON" scripts/lint.py notes
check "no file above 600 lines" "$PYTHON" scripts/lint.py sizes
check "docker files and other YAML" "$PYTHON" scripts/lint.py docker
check "relative links in the documents" "$PYTHON" scripts/lint.py links
check "python compiles" python_files
check "shellcheck" shell_scripts
check "clang-format-19 (./dev format)" formatting
[ "$failures" = 0 ] || die "$failures of the checks failed"
