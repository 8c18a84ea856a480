#!/usr/bin/env bash
# Bad surroundings, one at a time: preflight.sh must name each, say what to do, and leave nothing. Needs no node and no root.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
# A state of the test's own, so that a node which is up on this machine does not matter.
export AUDITTRAIL_STATE=$WORK/state

refuses() { # WORDS ENVIRONMENT-OR-COMMAND...
	local words=$1 answer
	shift
	if answer=$(env "$@" 2>&1); then
		fail "passed, and should have said: $words"
	fi
	[[ $answer == *"$words"* ]] || fail "said: $answer
	and not: $words"
	[[ ! -e $AUDITTRAIL_STATE || -n ${KEPT:-} ]] || fail "left $AUDITTRAIL_STATE behind"
	say "  says: $words"
}

NODE=("$CLUSTER_DIR/preflight.sh" node)

mkdir "$WORK/bin"
for tool in bash sh env awk sed grep cut dirname basename uname id stat df tail tr cat find ls sort head seq sleep unshare; do
	ln -s "$(command -v "$tool")" "$WORK/bin/$tool"
done
: >"$WORK/no-filesystems"

refuses 'this machine is aarch64' AUDITTRAIL_MACHINE=aarch64 "${NODE[@]}"
refuses 'not root' AUDITTRAIL_UID=1000 "${NODE[@]}"
refuses 'no such-kind namespace' AUDITTRAIL_NAMESPACES=such-kind "${NODE[@]}"
refuses 'no overlayfs' AUDITTRAIL_FILESYSTEMS="$WORK/no-filesystems" PATH="$WORK/bin" "${NODE[@]}"
refuses 'GiB free for' AUDITTRAIL_MIN_DISK_GIB=1000000 "${NODE[@]}"
refuses 'GiB of memory available' AUDITTRAIL_MIN_MEMORY_GIB=1000000 "${NODE[@]}"
refuses 'go is missing' PATH="$WORK/bin" "${NODE[@]}"
refuses 'cargo is missing' PATH="$WORK/bin" "${NODE[@]}"
refuses 'and 99.0 or newer is needed' AUDITTRAIL_MIN_GO=99.0 "${NODE[@]}"
refuses 'not Debian' PATH="$WORK/bin" "${NODE[@]}"
refuses 'too long a path' AUDITTRAIL_STATE="$WORK/$(printf 'x%.0s' {1..60})" "${NODE[@]}"
mkdir -p "$AUDITTRAIL_STATE/mine"
KEPT=yes refuses 'not a node of ours' "${NODE[@]}"
rm -r "$AUDITTRAIL_STATE"

export KUBECONFIG=$WORK/kubeconfig KUBECACHEDIR=$WORK/cache
cat >"$KUBECONFIG" <<'YAML'
apiVersion: v1
kind: Config
clusters: [{name: gone, cluster: {server: "https://127.0.0.1:1"}}]
contexts: [{name: gone, context: {cluster: gone}}, {name: kind-gone, context: {cluster: gone}}]
YAML
if command -v kubectl >/dev/null; then
	refuses 'has no context other' "$CLUSTER_DIR/preflight.sh" context other
	refuses 'context gone does not answer' "$CLUSTER_DIR/preflight.sh" context gone
	refuses 'no way to bring images to context gone' "$CLUSTER_DIR/preflight.sh" context gone
fi
command -v kind >/dev/null || refuses 'images with: install it' "$CLUSTER_DIR/preflight.sh" context kind-gone
