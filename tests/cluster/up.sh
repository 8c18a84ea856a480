#!/usr/bin/env bash
# Starts a real Kubernetes node in its own network and mount namespaces, and returns when it is Ready and its DNS answers.
# With a healthy node there it returns at once. When a part fails, its last words are shown and nothing is left behind
# (AUDITTRAIL_KEEP_FAILED=1 leaves everything for a look; down.sh cleans up).
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
for part in tool-dirs render processes node-state network pki pack-image daemons; do
	# shellcheck source=/dev/null
	. "$CLUSTER_DIR/$part.sh"
done

FAILURE_LOG_LINES=25
PART='' # what is being done, for the word on failure
LOG=''  # the log that explains it
INTERRUPTED=''

main() {
	exec 3>&2
	if node_healthy; then
		say "the node is up: context $CLUSTER_NAME, kubeconfig $ADMIN_KUBECONFIG"
		return
	fi
	"$CLUSTER_DIR/preflight.sh" node
	"$CLUSTER_DIR/tools.sh" node
	take_node_lock
	say "starting the node: about 15 s"
	trap clean_up_failure EXIT
	trap 'INTERRUPTED=yes; exit 1' INT TERM
	start_node
	trap - EXIT INT TERM
	say "the node is Ready after $SECONDS s: context $CLUSTER_NAME, kubeconfig $ADMIN_KUBECONFIG"
}

start_node() {
	make_state
	step "certificates" up make_pki
	step "network and mount namespaces" holder make_namespaces
	step "etcd" etcd start_etcd
	step "kube-apiserver" kube-apiserver start_apiserver
	step "containerd" containerd start_containerd
	step "images of the node" up import_node_images
	step "kube-apiserver is ready" kube-apiserver wait_apiserver
	step "kube-controller-manager" kube-controller-manager start_controller_manager
	step "kube-scheduler" kube-scheduler start_scheduler
	step "kubelet, until the node is Ready" kubelet start_kubelet
	step "kube-proxy, until Services are routed" kube-proxy start_proxy
	step "volumes" volumes start_volumes
	step "DNS, until a name is answered" up start_dns
}

make_namespaces() {
	make_cgroup
	make_network
	make_mounts
}

# Not called in a condition: there `set -e` would not hold inside the step.
step() { # TITLE LOG COMMAND...
	PART=$1 LOG=$STATE/log/$2.log
	shift 2
	say "  $PART"
	"$@" >>"$STATE/log/up.log" 2>&1
}

clean_up_failure() {
	trap - INT TERM
	exec 2>&3
	if [[ -n $INTERRUPTED ]]; then
		say "interrupted at: $PART"
	else
		say "FAILED: $PART. The last lines of its log:"
		tail -n "$FAILURE_LOG_LINES" "$LOG" >&2 || true
		[[ $LOG == */up.log ]] || tail -n 1 "$STATE/log/up.log" >&2 || true
	fi
	if [[ ${AUDITTRAIL_KEEP_FAILED:-} == 1 ]]; then
		say "left as it is: logs in $STATE/log"
	else
		release_node_lock
		"$CLUSTER_DIR/down.sh"
	fi
	exit 1
}

main "$@"
