# The node's own network and mount namespaces. Sourced.
#
# With a network of its own, no port of the node can be taken on the host, no pod shares an interface with the outside, and
# no iptables rule of kube-proxy is seen by anybody else. With mounts of its own, what kubelet and containerd mount vanishes
# with their last process, and the directories whose names are compiled into them are not the machine's.
# shellcheck shell=bash

# Directories that kubelet, containerd, the CNI plugins and the shims use whatever they are told.
COMPILED_IN_DIRS=(/var/lib/kubelet /run/containerd /var/lib/cni /var/log/containers)

make_network() {
	[[ -d /run/netns ]] || echo /run/netns >>"$STATE/made-dirs"
	ip netns add "$CLUSTER_NAME"
	# Both ends of the pair stay inside: the node needs an address and a default route, and has nowhere to go.
	ip -n "$CLUSTER_NAME" link add node0 type veth peer name node1
	ip -n "$CLUSTER_NAME" address add "$NODE_ADDRESS/24" dev node0
	ip -n "$CLUSTER_NAME" link set lo up
	ip -n "$CLUSTER_NAME" link set node1 up
	ip -n "$CLUSTER_NAME" link set node0 up
	ip -n "$CLUSTER_NAME" route add default dev node0
	nsenter --net="/run/netns/$CLUSTER_NAME" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}

remove_network() {
	[[ ! -e /run/netns/$CLUSTER_NAME ]] || ip netns delete "$CLUSTER_NAME"
}

# One sleeping process keeps the mount namespace; in-node.sh enters by its id.
make_mounts() {
	local dir ready=$RUN/mounts-ready
	# As in a pod, NAME.NAMESPACE.svc is enough.
	printf 'search cluster.local\nnameserver %s\noptions ndots:5\n' "$DNS_ADDRESS" >"$STATE/resolv.conf"
	for dir in "${COMPILED_IN_DIRS[@]}"; do
		mkdir -p "$STATE/dirs$dir"
	done
	rm -f "$ready"
	# The machine's directories serve as mount points, so they must be there; those that were not are removed by down.sh.
	for dir in "${COMPILED_IN_DIRS[@]}"; do
		[[ -d $dir ]] || { mkdir -p "$dir" && echo "$dir" >>"$STATE/made-dirs"; }
	done
	detached unshare --mount --propagation private "$CLUSTER_DIR/holder.sh" "$STATE" "$ready" "${COMPILED_IN_DIRS[@]}" \
		>>"$STATE/log/holder.log" 2>&1 &
	record holder $!
	wait_until 10 test -e "$ready"
}

remove_made_dirs() {
	[[ -f $STATE/made-dirs ]] || return 0
	local dir
	while read -r dir; do
		umount "$dir" 2>/dev/null || true # `ip` mounts /run/netns on itself
		rmdir "$dir" 2>/dev/null || true  # not ours alone any more when something is in it
	done <"$STATE/made-dirs"
}
