#!/usr/bin/env bash
# PostgreSQL servers under .demo/, .test/ or .bench/; the work is done by tests/harness/cluster.py, whose --help says how.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
exec "$PYTHON" "$ROOT/tests/harness/cluster.py" "$@"
