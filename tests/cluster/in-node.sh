#!/usr/bin/env bash
# Runs a command inside the node: its network, its mounts, its name server, its kubeconfig, its tools first on the PATH.
#
#   tests/cluster/in-node.sh kubectl get pods -A
#   tests/cluster/in-node.sh bash
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
# shellcheck source=tests/cluster/tool-dirs.sh
. "$CLUSTER_DIR/tool-dirs.sh"
# shellcheck source=tests/cluster/processes.sh
. "$CLUSTER_DIR/processes.sh"

[[ $# -gt 0 ]] || fail "usage: in-node.sh COMMAND…"
holder=$(recorded_pid holder) || fail "the node is not up: tests/cluster/up.sh starts it"

PATH=$(program_dir kube):$(containerd_dir):$PATH:$(program_dir helm)
# kubectl and helm keep what they know of this cluster with its state, not in the user's home.
export KUBECACHEDIR=$STATE/kubectl-cache HELM_CACHE_HOME=$STATE/helm/cache HELM_CONFIG_HOME=$STATE/helm/config HELM_DATA_HOME=$STATE/helm/data
export PATH KUBECONFIG=$ADMIN_KUBECONFIG CONTAINERD_ADDRESS=$RUN/containerd.sock CONTAINERD_NAMESPACE=k8s.io
# Not `ip netns exec`, which hides the cgroup mounts and so stops the kubelet. Nothing here forks: the caller's process
# becomes the command, so its process id is known.
exec nsenter --net="/run/netns/$CLUSTER_NAME" --mount="/proc/$holder/ns/mnt" --wdns="$PWD" "$@"
