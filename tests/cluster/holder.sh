#!/bin/sh
# Runs in the node's new mount namespace, lays its directories over the machine's, and keeps the namespace alive.
#   holder.sh STATE READY_FILE DIRECTORY...
set -eu
state=$1 ready=$2
shift 2

for dir in "$@"; do
	mount --bind "$state/dirs$dir" "$dir"
done

# The name server is the cluster's, so that the API server can call a webhook by the name of its Service.
mount --bind "$state/resolv.conf" /etc/resolv.conf

# The kubelet insists on these settings of the kernel (memory overcommit, reboot after a panic). It gets copies to write to:
# they are the whole machine's, and a demo does not decide on them.
for setting in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
	copy=$state/dirs/proc/sys/$setting
	mkdir -p "$(dirname "$copy")"
	cat "/proc/sys/$setting" >"$copy"
	mount --bind "$copy" "/proc/sys/$setting"
done

# As on a real node: a mount made by kubelet is seen in the containers that ask for it.
mount --make-rshared /
: >"$ready"
exec sleep infinity
