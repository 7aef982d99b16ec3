#!/usr/bin/env bash
# Faults under load: ./dev chaos [--short | --minutes N] [--seed N] [--rounds N] [--reloads N] [--worlds N] [--only …]; see docs/testing.md.
# Exits with 1 if a guarantee was violated; Tessera's log is kept in .cache/chaos-<seed>.log.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case " $* " in
  *" --help "* | *" -h "* | *" --list "*) ;;
  *)
    "$ROOT/scripts/install.sh" build test
    build_preset release tessera
    ;;
esac
exec "$PYTHON" "$ROOT/tests/chaos/run.py" "$@"
