#!/usr/bin/env bash
# Says in plain words what this machine lacks, before anything is built or touched. Changes nothing, except that what a dead
# node left behind is cleared away.
#
#   preflight.sh node           for a real node of our own
#   preflight.sh context NAME   for a cluster that the caller's kubeconfig names
#
# Bounds can be moved (AUDITTRAIL_MIN_DISK_GIB, AUDITTRAIL_MIN_MEMORY_GIB), which is also how the checks are tested.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
for part in processes node-state; do
	# shellcheck source=/dev/null
	. "$CLUSTER_DIR/$part.sh"
done

MIN_DISK_GIB=${AUDITTRAIL_MIN_DISK_GIB:-10}    # Go's caches 5.5, our compiled programs 1, tools 0.5, the node's images and volumes 2
MIN_MEMORY_GIB=${AUDITTRAIL_MIN_MEMORY_GIB:-3} # the compiler's peak is above 2; the node itself needs 1
MIN_GO=${AUDITTRAIL_MIN_GO:-$(awk '$1 == "go" {print $2}' "$CLUSTER_DIR/programs/go.mod")}
MIN_RUST=${AUDITTRAIL_MIN_RUST:-$(awk -F'"' '/^rust-version/ {print $2}' "$REPO_DIR/Cargo.toml")}
OTHER_WAY='or use a cluster that you have: make demo CONTEXT=kind-dev'
CONTEXT_TIMEOUT_SECONDS=5
MAX_STATE_PATH=60 # of 107 for a socket's path; the kubelet adds up to 40

PROBLEMS=0
problem() {
	printf 'cluster: PROBLEM: %s\n' "$*" >&2
	PROBLEMS=$((PROBLEMS + 1))
}

main() {
	case ${1:-node} in
	node)
		check_architecture
		check_root
		check_namespaces
		check_overlays
		check_cgroups
		check_disk
		check_memory
		check_go
		check_rust
		check_packages
		check_state
		check_earlier_run
		;;
	context)
		check_rust
		check_context "${2:?which context}"
		"$CLUSTER_DIR/images.sh" route "$2" >/dev/null || PROBLEMS=$((PROBLEMS + 1))
		;;
	*) fail "usage: preflight.sh node | context NAME" ;;
	esac
	((PROBLEMS == 0)) || fail "$PROBLEMS problem(s), nothing was touched"
}

check_architecture() {
	local machine=${AUDITTRAIL_MACHINE:-$(uname -m)}
	[[ $machine == x86_64 ]] || problem "this machine is $machine, and the node is built for x86_64 only: $OTHER_WAY"
}

check_root() {
	[[ ${AUDITTRAIL_UID:-$(id -u)} == 0 ]] || problem "not root: a node needs namespaces, mounts and cgroups. Run it with sudo, $OTHER_WAY"
}

# The kernel can refuse (a container without privileges), whoever asks.
check_namespaces() {
	local kind
	for kind in ${AUDITTRAIL_NAMESPACES:-net mount}; do
		unshare "--$kind" true 2>/dev/null ||
			problem "no $kind namespace can be made here (an unprivileged container?): use a virtual machine or a privileged container, $OTHER_WAY"
	done
}

check_overlays() {
	grep -qw overlay "${AUDITTRAIL_FILESYSTEMS:-/proc/filesystems}" || modprobe overlay 2>/dev/null ||
		problem "this kernel has no overlayfs, which containerd needs: modprobe overlay, $OTHER_WAY"
	local filesystem
	filesystem=$(stat --file-system --format %T "$(existing_parent "$STATE")")
	[[ $filesystem != overlayfs ]] ||
		problem "$STATE would be on overlayfs, and overlays do not stack: set AUDITTRAIL_STATE to a directory on a real disk"
}

check_cgroups() {
	local root controller
	root=$(record_hierarchy)
	[[ -d $root && -w $root ]] || problem "no cgroups at /sys/fs/cgroup that can be written: $OTHER_WAY"
	[[ -f $root/cgroup.controllers ]] || return 0 # cgroup v1: each controller is a directory, and the kubelet names what it misses
	for controller in cpu cpuset memory pids; do
		grep -qw "$controller" "$root/cgroup.controllers" || problem "no cgroup controller $controller, which the kubelet needs: $OTHER_WAY"
	done
}

check_disk() {
	local place free
	for place in "$CACHE" "$STATE"; do
		free=$(df --output=avail --block-size=1G "$(existing_parent "$place")" | tail -n 1 | tr -d ' ')
		((free >= MIN_DISK_GIB)) ||
			problem "$free GiB free for $place, and $MIN_DISK_GIB are needed: make room, or move it (AUDITTRAIL_CACHE, AUDITTRAIL_STATE)"
	done
}

existing_parent() {
	local dir=$1
	until [[ -e $dir ]]; do dir=$(dirname "$dir"); done
	echo "$dir"
}

check_memory() {
	local available
	available=$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
	((available >= MIN_MEMORY_GIB)) ||
		problem "$available GiB of memory available, and $MIN_MEMORY_GIB are needed: end something, $OTHER_WAY"
}

check_go() {
	at_least go "$(go env GOVERSION 2>/dev/null | sed 's/^go//')" "$MIN_GO" "https://go.dev/dl"
}

check_rust() {
	at_least cargo "$(cargo --version 2>/dev/null | cut -d' ' -f2)" "$MIN_RUST" "https://rustup.rs"
	command -v cc >/dev/null || problem "no C linker, which Rust needs: apt-get install gcc libc6-dev"
}

at_least() { # NAME FOUND WANTED WHERE
	if [[ -z $2 ]]; then
		problem "$1 is missing: $4 has it ($3 or newer)"
	elif [[ $(printf '%s\n' "$2" "$3" | sort -V | head -n 1) != "$3" ]]; then
		problem "$1 is $2, and $3 or newer is needed: $4 has it"
	fi
}

check_packages() {
	command -v apt-get >/dev/null || problem "this is not Debian or a child of it (no apt-get): $OTHER_WAY"
	command -v curl >/dev/null || problem "curl is missing: apt-get install curl"
}

check_state() {
	((${#STATE} <= MAX_STATE_PATH)) ||
		problem "$STATE is too long a path for the kubelet's sockets ($MAX_STATE_PATH characters at most): set AUDITTRAIL_STATE to a shorter one"
	[[ ! -e $STATE || -e $MARKER || -z $(ls -A "$STATE") ]] ||
		problem "$STATE is there and not a node of ours: move it away, or set AUDITTRAIL_STATE to another directory"
}

# No port is checked: every port of the node is inside its own network namespace, where nobody else can be.
# What is checked is that namespace's name, and all else that an earlier run may have left.
check_earlier_run() {
	local left
	left=$(leftovers)
	[[ -n $left ]] || return 0
	node_healthy && return 0
	if [[ -z $(our_processes) ]]; then
		[[ ! -e $STATE || -e $MARKER ]] || return 0 # check_state has said it
		say "an earlier node ended without cleaning up (a reboot, a kill): cleaning up after it"
		"$CLUSTER_DIR/down.sh"
	else
		problem "an earlier node is there and not healthy ($(tr '\n' ' ' <<<"$left" | cut -c1-200)): make demo-down removes it"
	fi
}

check_context() { # NAME
	command -v kubectl >/dev/null || { problem "kubectl is missing, and context $1 needs it: install it from your distribution" && return; }
	kubectl config get-contexts "$1" >/dev/null 2>&1 ||
		{ problem "your kubeconfig has no context $1. It has: $(kubectl config get-contexts --output=name | tr '\n' ' ')" && return; }
	kubectl --context "$1" --request-timeout="${CONTEXT_TIMEOUT_SECONDS}s" get --raw /version >/dev/null 2>&1 ||
		problem "context $1 does not answer within $CONTEXT_TIMEOUT_SECONDS s: is that cluster running?"
}

main "$@"
