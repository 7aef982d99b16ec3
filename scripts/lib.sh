# Sourced by the other scripts: where things are, how we speak, how we become root.
# shellcheck shell=bash
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=/usr/bin/python3 # Debian's own: the drivers and pytest are its packages
export PYTHONDONTWRITEBYTECODE=1
export ROOT PYTHON

say() { printf '%s\n' "==> $*"; }
die() {
  printf '%s\n' "error: $*" >&2
  exit 1
}

# Runs a command as root: directly, or through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root: run it as root, or install sudo ($*)"
  fi
}

# Configures and builds targets of a preset: build_preset release [-DNAME=VALUE…] tessera
build_preset() {
  local preset=$1 settings=()
  shift
  while [[ ${1:-} == -D* ]]; do
    settings+=("$1")
    shift
  done
  (cd "$ROOT" && cmake --preset "$preset" "${settings[@]}" >"$ROOT/build/configure-$preset.log" 2>&1) || {
    cat "$ROOT/build/configure-$preset.log" >&2
    die "cmake --preset $preset failed"
  }
  cmake --build "$ROOT/build/$preset" --target "$@"
}
mkdir -p "$ROOT/build"
