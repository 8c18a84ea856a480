#!/usr/bin/env bash
# Ends the node and everything in it, and removes all that it left on this machine except the cache of tools. Safe at any
# time, twice, and after a start that was cut short.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
for part in processes node-state network; do
	# shellcheck source=/dev/null
	. "$CLUSTER_DIR/$part.sh"
done

main() {
	if [[ -z $(leftovers) ]]; then
		say "no node on this machine"
		return
	fi
	[[ $(id -u) == 0 ]] || fail "ending the node needs root: sudo make demo-down"
	take_node_lock
	end_recorded
	kill_all_ours
	remove_network
	remove_made_dirs
	unmount_below "$STATE"
	unmount_below "$RUN"
	remove_state
	rm -rf "$RUN"
	remove_cgroup
	rm -f "$NODE_LOCK"
	say "the node is gone; the cache of tools stays in $CACHE"
}

# Of use only to what is not in our cgroup: a daemon that was started in the instant before it was put there.
end_recorded() {
	local file pid
	for file in "$STATE"/pids/*; do
		[[ ! -f $file ]] || ! pid=$(recorded_pid "$(basename "$file")") || kill -KILL "$pid" 2>/dev/null || true
	done
}

# Nothing is expected: the node's mounts were in a namespace that ended with its last process.
unmount_below() { # DIR
	local mount
	while read -r mount; do
		umount --lazy "$mount" || true
	done < <(awk -v below="$1/" 'index($2, below) == 1 {print $2}' /proc/mounts | sort -r)
}

remove_state() {
	[[ -e $STATE ]] || return 0
	[[ -e $MARKER ]] || fail "$STATE is not a node of ours (it lacks $(basename "$MARKER")): move it away, or set AUDITTRAIL_STATE"
	rm -rf "$STATE"
}

main "$@"
