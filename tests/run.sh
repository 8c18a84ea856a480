#!/usr/bin/env bash
# Runs test levels in the order given: lint, unit, store, api, node. Installs what a level needs where it may; with CI=true whatever cannot
# run is a failure, otherwise it is named and left out. The last line sums up: N passed, N failed.
set -uo pipefail
REPO_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$REPO_DIR" || exit 2
CLUSTER=$REPO_DIR/tests/cluster
CI=${CI:-false}
LOGS=$(mktemp -d)
trap 'rm -rf "$LOGS"' EXIT

# The tests of level store that run twice, see there.
STORE_TESTS_OF_SQL=(store_log store_query store_record store_postings store_migrations store_segments store_epoch)

PASSED=0 FAILED=0 SKIPPED=0
FAILURES=()

main() {
	local level
	# Kubernetes takes a quarter of an hour to compile; whatever waits for something else meanwhile costs nothing.
	if wants node "$@" && is_root; then
		nice "$CLUSTER/tools.sh" node >"$LOGS/tools" 2>&1 &
		TOOLS=$!
	fi
	for level in "$@"; do
		printf '\n##### %s\n' "$level"
		"level_$level"
	done
	sum_up
}

wants() {
	local level=$1
	shift
	[[ " $* " == *" $level "* ]]
}

is_root() { [[ $(id -u) == 0 ]]; }

level_lint() {
	check "cargo fmt" cargo fmt --all --check
	check "cargo clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
	need shellcheck shellcheck && check "shellcheck" shellcheck --external-sources examples/*.sh tests/run.sh tests/node/*.sh tests/cluster/*.sh tests/fuzz/*.sh
}

level_unit() {
	cargo_tests --workspace --exclude audittrail-tests
	cargo_tests -p audittrail-tests --lib --test 'unit_*'
	check "bad surroundings get a clear word" "$CLUSTER/preflight-test.sh"
}

# Everything on the machine's Postgres, and what depends on its SQL again on a newer one.
level_store() {
	local newer test again=()
	need postgres postgresql || return 0
	say "on $("$(command -v postgres || find /usr/lib/postgresql -name postgres -path '*/bin/*' | sort -V | tail -n 1)" --version)"
	cargo_tests -p audittrail-tests --test 'store_*'
	sdk_tests
	description_tests
	if ! newer=$("$CLUSTER/tools.sh" postgres); then
		skip "level store, again on a newer Postgres"
		return
	fi
	for test in "${STORE_TESTS_OF_SQL[@]}"; do again+=(--test "$test"); done
	say "on $("$newer/postgres" --version)"
	AUDITTRAIL_POSTGRES_PROGRAMS=$newer cargo_tests -p audittrail-tests "${again[@]}"
}

# Segment's own SDKs, which are programs for Node.
sdk_tests() {
	need node nodejs || return 0
	need npm npm || return 0
	if "$CLUSTER/tools.sh" sdks >/dev/null; then
		cargo_tests -p audittrail-tests --test 'sdk_*'
	else
		skip "Segment's own SDKs against a collector"
	fi
}

# A collector against its own description.
description_tests() {
	need python3 python3 || return 0
	python3 -m pip --version >/dev/null 2>&1 || need pip3 python3-pip || return 0
	if "$CLUSTER/tools.sh" schemathesis >/dev/null; then
		cargo_tests -p audittrail-tests --test 'openapi_*'
	else
		skip "schemathesis against a collector"
	fi
}

level_api() {
	# The operator's tests install the chart, so that they run with its RBAC.
	if ! "$CLUSTER/tools.sh" control-plane || ! "$CLUSTER/tools.sh" helm; then
		failure "the control plane could not be built"
		return
	fi
	eval "$("$CLUSTER/tools.sh" env)"
	cargo_tests -p audittrail-tests --test 'api_*'
}

# The README's own commands, on a machine that must be as clean afterwards as it was before.
level_node() {
	if ! is_root; then
		skip "level node: a node of our own needs root (sudo make test-node)"
		return
	fi
	[[ -z ${TOOLS:-} ]] || wait_for_tools
	check "make demo" env CONTEXT= make --no-print-directory demo
	check "what kubectl shows is true and documented" "$REPO_DIR/tests/node/explain.sh"
	check "the README's commands, word for word" "$REPO_DIR/tests/node/readme.sh"
	SHOW_OUTPUT=yes CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$CLUSTER/in-node.sh cargo_tests -p audittrail-tests --test 'node_*'
	check "make demo again, on what is there" env CONTEXT= make --no-print-directory demo
	# Our own cluster as somebody's: nothing but kubectl's context leads there, and everything goes again.
	check "make demo CONTEXT=…" "$CLUSTER/in-node.sh" make --no-print-directory demo CONTEXT=audittrail-demo
	check "make demo-down CONTEXT=…" "$CLUSTER/in-node.sh" make --no-print-directory demo-down CONTEXT=audittrail-demo
	check "make demo-down" env CONTEXT= make --no-print-directory demo-down
	check "nothing is left" "$REPO_DIR/tests/node/clean.sh"
}

wait_for_tools() {
	say "waiting for the cluster's programs to be built"
	tail --pid="$TOOLS" -n +1 -f "$LOGS/tools"
	wait "$TOOLS" || failure "the cluster's programs could not be built"
}

# A program of a Debian package; installed where we may.
need() { # PROGRAM PACKAGE
	has "$1" && return
	if is_root && command -v apt-get >/dev/null; then
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2"; } >"$LOGS/apt" 2>&1 || cat "$LOGS/apt"
	fi
	has "$1" && return
	skip "$1 is missing: apt-get install $2"
	return 1
}

# Debian keeps Postgres' programs off the PATH.
has() { command -v "$1" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null; }

# Counts the tests of one cargo run by the summary lines of its binaries.
cargo_tests() {
	local counts passed failed ignored
	say "cargo test $*"
	cargo test --locked --no-fail-fast "$@" -- --test-threads="${TEST_THREADS:-2}" ${SHOW_OUTPUT:+--show-output} 2>&1 | tee "$LOGS/cargo" | grep --line-buffered -vE '^(warning|\s+Compiling|$)' || true
	counts=$(awk '/^test result:/ {p += $4; f += $6; i += $8} END {print p + 0, f + 0, i + 0}' "$LOGS/cargo")
	read -r passed failed ignored <<<"$counts"
	PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed)) SKIPPED=$((SKIPPED + ignored))
	((failed == 0)) || FAILURES+=("cargo test $*")
	# No test, or a binary that did not compile or died, is a failure of its own.
	if ((passed + failed + ignored == 0)) || { ((failed == 0)) && grep -qE '^error(\[|:)' "$LOGS/cargo"; }; then
		failure "cargo test $* did not run to its end"
	fi
}

check() { # TITLE COMMAND...
	local title=$1 begun=$SECONDS
	shift
	say "$title"
	if "$@"; then
		PASSED=$((PASSED + 1))
		say "$title: ok after $((SECONDS - begun)) s"
	else
		failure "$title"
	fi
}

failure() {
	FAILED=$((FAILED + 1))
	FAILURES+=("$1")
	say "FAILED: $1"
}

skip() {
	if [[ $CI == true ]]; then
		failure "$1 (CI skips nothing)"
	else
		SKIPPED=$((SKIPPED + 1))
		say "SKIPPED: $1"
	fi
}

say() { printf -- '--- %s\n' "$*"; }

sum_up() {
	local failure
	printf '\n'
	for failure in "${FAILURES[@]}"; do say "failed: $failure"; done
	if [[ $CI == true ]] && ((SKIPPED > 0)); then
		say "$SKIPPED skipped, and CI skips nothing"
		FAILED=$((FAILED + SKIPPED)) SKIPPED=0
	fi
	if ((SKIPPED > 0)); then
		printf '%s passed, %s failed, %s skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
	else
		printf '%s passed, %s failed\n' "$PASSED" "$FAILED"
	fi
	((FAILED == 0))
}

main "$@"
