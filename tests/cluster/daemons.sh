# The node's daemons in the order in which they can be started. Sourced.
# shellcheck shell=bash

DAEMON_DEADLINE_SECONDS=60

# Waits until a daemon serves. One that has ended by itself never will, so then nobody waits for the deadline.
wait_serving() { # NAME COMMAND...
	local deadline=$((SECONDS + DAEMON_DEADLINE_SECONDS)) name=$1
	shift
	until "$@" >/dev/null 2>&1; do
		alive "$name" || { echo "$name has ended by itself" && return 1; }
		((SECONDS < deadline)) || { echo "$name does not serve after $DAEMON_DEADLINE_SECONDS s" && return 1; }
		sleep 0.2
	done
}

in_node() { "$CLUSTER_DIR/in-node.sh" "$@"; }

start_etcd() {
	# No fsync: what this node stores is thrown away with it, and a slow disk would make the whole cluster slow.
	start etcd etcd --data-dir "$STATE/etcd" --unsafe-no-fsync --log-level warn \
		--listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
		--listen-peer-urls http://127.0.0.1:2380
}

# More flags, one a line, are in $STATE/kube-apiserver.extra (apiserver.sh writes them).
start_apiserver() {
	local flags
	mapfile -t flags < <(
		render "$CLUSTER_DIR/config/kube-apiserver.flags"
		cat "$STATE/kube-apiserver.extra" 2>/dev/null
	)
	start kube-apiserver kube-apiserver "${flags[@]}"
}

wait_apiserver() { wait_serving kube-apiserver in_node kubectl get --raw /readyz; }

start_controller_manager() {
	local pki=$STATE/pki kubeconfig=$STATE/pki/controller-manager.kubeconfig
	start kube-controller-manager kube-controller-manager --kubeconfig "$kubeconfig" --use-service-account-credentials \
		--authentication-kubeconfig "$kubeconfig" --authorization-kubeconfig "$kubeconfig" --leader-elect=false \
		--root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
		--cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
		--service-cluster-ip-range "$SERVICE_RANGE" --flex-volume-plugin-dir "$STATE/volume-plugins"
}

start_scheduler() {
	local kubeconfig=$STATE/pki/scheduler.kubeconfig
	start kube-scheduler kube-scheduler --kubeconfig "$kubeconfig" --leader-elect=false \
		--authentication-kubeconfig "$kubeconfig" --authorization-kubeconfig "$kubeconfig"
}

start_containerd() {
	mkdir -p "$STATE/cni"
	render "$CLUSTER_DIR/config/containerd.toml" >"$STATE/containerd.toml"
	render "$CLUSTER_DIR/config/cni.conflist" >"$STATE/cni/pods.conflist"
	start containerd containerd --config "$STATE/containerd.toml"
	wait_serving containerd in_node ctr version
}

# The images without which no pod starts, and the name server's.
import_node_images() {
	local images=$STATE/images
	mkdir -p "$images"
	pack_program "$(program_dir pause)/pause" "$IMAGE_PREFIX/pause:1" "$images/pause.tar"
	pack_program "$(program_dir coredns)/coredns" "$IMAGE_PREFIX/coredns:$COREDNS_VERSION" "$images/coredns.tar"
	in_node ctr images import "$images/pause.tar"
	in_node ctr images import "$images/coredns.tar"
	rm -r "$images"
}

start_kubelet() {
	render "$CLUSTER_DIR/config/kubelet.yaml" >"$STATE/kubelet.yaml"
	start kubelet kubelet --config "$STATE/kubelet.yaml" --kubeconfig "$STATE/pki/node.kubeconfig" \
		--hostname-override "$CLUSTER_NAME" --node-ip "$NODE_ADDRESS" --root-dir "$STATE/kubelet"
	wait_serving kubelet node_ready
}

start_proxy() {
	render "$CLUSTER_DIR/config/kube-proxy.yaml" >"$STATE/kube-proxy.yaml"
	start kube-proxy kube-proxy --config "$STATE/kube-proxy.yaml"
	wait_serving kube-proxy in_node curl --silent --fail http://127.0.0.1:10256/healthz
}

start_volumes() {
	"$CLUSTER_DIR/volumes.sh" make >"$STATE/volumes.yaml"
	in_node kubectl apply -f "$CLUSTER_DIR/manifests/storage-class.yaml" -f "$STATE/volumes.yaml"
	start volumes "$CLUSTER_DIR/volumes.sh" recycle
}

start_dns() {
	render "$CLUSTER_DIR/manifests/coredns.yaml" >"$STATE/coredns.yaml"
	in_node kubectl apply -f "$STATE/coredns.yaml"
	in_node kubectl -n kube-system rollout status deployment/coredns --timeout "${DAEMON_DEADLINE_SECONDS}s"
	wait_until "$DAEMON_DEADLINE_SECONDS" dns_answers
}

node_ready() {
	in_node kubectl wait --for=condition=Ready "node/$CLUSTER_NAME" --timeout=0s
}

dns_answers() {
	[[ $(in_node getent hosts kubernetes.default.svc.cluster.local) == "$API_SERVICE_ADDRESS"* ]]
}
