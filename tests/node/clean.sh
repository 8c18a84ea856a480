#!/usr/bin/env bash
# Fails, and names it, when `make demo-down` left anything of the node on this machine.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/settings.sh"
for part in processes node-state; do
	# shellcheck source=/dev/null
	. "$CLUSTER_DIR/$part.sh"
done

left=$(leftovers)
[[ -z $left ]] || fail "left behind: $left"
