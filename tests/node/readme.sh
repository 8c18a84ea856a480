#!/usr/bin/env bash
# Types what the README tells its readers to type, word for word: "First event by curl", with the queries and the CSV that follow.
set -euo pipefail
REPO_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# The commands of a section's console blocks; what they print stands there too, without a `$ ` in front.
commands_of() { # HEADING
	awk -v heading="## $1" '
		/^## / {inside = $0 == heading}
		/^```/ {block = !block; command = 0; next}
		inside && block && /^\$ / {command = 1; sub(/^\$ /, "")}
		inside && block && /^\{"accepted"/ {command = 0}
		inside && block && command {print}
	' "$REPO_DIR/README.md"
}

{
	# Who types is slower than the port-forward; and a refusal must not pass for an answer.
	cat <<-'PREAMBLE'
		set -euo pipefail
		curl() { command curl --silent --show-error --fail-with-body --retry 20 --retry-delay 1 --retry-connrefused "$@" && echo; }
		trap 'kill $(jobs -p)' EXIT
	PREAMBLE
	commands_of 'First event by curl'
} >"$WORK/typed"

cd "$WORK"
"$REPO_DIR/tests/cluster/in-node.sh" bash "$WORK/typed" | tee "$WORK/printed"
grep -q '"accepted":1' "$WORK/printed" || grep -q '"duplicates":1' "$WORK/printed"
grep -q '"type":"Warehouse Disabled"' "$WORK/printed"
grep -q 'Warehouse Disabled' "$WORK/audit.csv"
