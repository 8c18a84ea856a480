# What is known of the node between two calls: its state directory, whether it is healthy, who is changing it. Sourced.
# shellcheck shell=bash

MARKER=$STATE/this-is-an-audittrail-node # `rm -rf` only where this is
NODE_LOCK=/run/lock/$CLUSTER_NAME

make_state() {
	umask 022
	mkdir -p "$STATE"/{log,pids} "$RUN"
	: >"$MARKER"
}

node_healthy() {
	alive holder || return 1
	local daemon
	for daemon in "$STATE"/pids/*; do
		alive "$(basename "$daemon")" || return 1
	done
	"$CLUSTER_DIR/in-node.sh" kubectl wait --for=condition=Ready "node/$CLUSTER_NAME" --timeout=0s >/dev/null 2>&1 &&
		"$CLUSTER_DIR/in-node.sh" kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=0s >/dev/null 2>&1
}

# up.sh and down.sh never work at the same time.
take_node_lock() {
	exec 9>"$NODE_LOCK"
	flock --nonblock 9 || fail "another up.sh or down.sh is at work on this machine: wait for it"
}

release_node_lock() { exec 9>&-; }

# Something of an earlier node is on this machine.
leftovers() {
	[[ ! -e $STATE ]] || echo "$STATE"
	[[ ! -e /run/netns/$CLUSTER_NAME ]] || echo "network namespace $CLUSTER_NAME"
	[[ -z $(our_processes) ]] || echo "processes $(our_processes | tr '\n' ' ')"
}
