#!/usr/bin/env bash
# Real client drivers against Tessera and four shards: ./dev drivers [--plain] [--quick] [names…]; see tests/drivers/README.md.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
"$ROOT/scripts/install.sh" build drivers
case " $* " in
  *" --plain "*) ;;
  *) build_preset release tessera ;;
esac
exec "$PYTHON" "$ROOT/tests/drivers/run.py" "$@"
