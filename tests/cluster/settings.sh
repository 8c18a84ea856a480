# Names, places and addresses of the test node, and how its scripts talk. Sourced by every script here.
# shellcheck shell=bash disable=SC2034

CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO_DIR=$(cd "$CLUSTER_DIR/../.." && pwd)
# shellcheck source=tests/cluster/versions.env
. "$CLUSTER_DIR/versions.env"

# Slow to build, good for many runs: outside the checkout, and it outlives `make demo-down`.
CACHE=${AUDITTRAIL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/audittrail}
# Everything of one running node, on real disk (containerd's overlays). Gone after `down.sh`.
STATE=${AUDITTRAIL_STATE:-/var/lib/$CLUSTER_NAME}
# Sockets, whose paths must be short.
RUN=/run/$CLUSTER_NAME
ADMIN_KUBECONFIG=$STATE/admin.kubeconfig

# Documentation range (RFC 5737) inside a network namespace of our own: collides with nothing.
NODE_ADDRESS=203.0.113.1
API_URL=https://127.0.0.1:6443
POD_RANGE=10.244.0.0/16
SERVICE_RANGE=10.96.0.0/16
API_SERVICE_ADDRESS=10.96.0.1
DNS_ADDRESS=10.96.0.10

say() { printf 'cluster: %s\n' "$*" >&2; }

fail() {
	printf 'cluster: ERROR: %s\n' "$*" >&2
	exit 1
}

# The caller's shell may carry settings (GOFLAGS, a GOOS for cross-building) that would change what we build.
go_build_environment() {
	export GOFLAGS='-mod=readonly -buildvcs=false' GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 GOOS=linux GOARCH=amd64
}
