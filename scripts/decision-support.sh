#!/usr/bin/env bash
# 22 questions of decision support on four shards and on one server; writes docs/decision-support.md: ./dev decision-support [--scale S]
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case " $* " in
  *" --help "* | *" -h "*) ;;
  *)
    "$ROOT/scripts/install.sh" build test
    build_preset release tessera
    ;;
esac
exec "$PYTHON" "$ROOT/tests/decision_support/report.py" "$@"
