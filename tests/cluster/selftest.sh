#!/usr/bin/env bash
# Proves that a node which is up can carry what the project's tests need, one line for each thing. Leaves nothing in the cluster.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
for part in tool-dirs processes render daemons; do
	# shellcheck source=/dev/null
	. "$CLUSTER_DIR/$part.sh"
done

DEADLINE_SECONDS=60
WORK=$(mktemp -d)

main() {
	trap clean_up EXIT
	proves "an image for the pods" postgres_image
	proves "a restricted StatefulSet with a bound claim" stateful_set
	proves "a server reached by its Service's name, as uid 999" service_by_name
	proves "a container that was killed comes back, with its data" killed_container
	proves "a pod that reaches itself through its Service" hairpin
	proves "restricted refuses a privileged pod" privileged_pod_refused
	proves "kubectl exec, logs, port-forward" kubelet_streams
	proves "a deleted claim's volume is empty for the next one" volume_recycled
	proves "the API server's audit log reaches a Service by name" audit_to_service
}

proves() { # SENTENCE COMMAND...
	local sentence=$1
	shift
	if ! ("$@") >"$WORK/log" 2>&1; then
		tail -n 20 "$WORK/log" >&2
		fail "not so: $sentence"
	fi
	say "  proved: $sentence"
}

kube() { in_node kubectl --namespace selftest "$@"; }

sql() { kube exec client -- psql -h db -U postgres -At -c "$1"; }

postgres_image() {
	local tar
	tar=$("$CLUSTER_DIR/postgres-image.sh") && in_node ctr images import "$tar"
}

stateful_set() {
	render "$CLUSTER_DIR/manifests/selftest.yaml" >"$WORK/selftest.yaml" &&
		# A new namespace has no service account for a moment, and takes no pod before.
		wait_until "$DEADLINE_SECONDS" kube apply -f "$WORK/selftest.yaml" && ready
}

ready() {
	kube rollout status statefulset/db --timeout=${DEADLINE_SECONDS}s &&
		kube wait pod/client --for=condition=Ready --timeout=${DEADLINE_SECONDS}s
}

service_by_name() {
	wait_until "$DEADLINE_SECONDS" sql 'create table if not exists kept as select 1 as one' &&
		[[ $(sql 'select one from kept') == 1 && $(kube exec db-0 -- id -u) == 999 ]]
}

killed_container() {
	local id pid
	id=$(kube get pod db-0 -o 'jsonpath={.status.containerStatuses[0].containerID}')
	pid=$(in_node ctr tasks list | awk -v id="${id#containerd://}" '$1 == id {print $2}')
	kill -KILL "$pid" && wait_until "$DEADLINE_SECONDS" restarted && [[ $(sql 'select one from kept') == 1 ]]
}

restarted() {
	[[ $(kube get pod db-0 -o 'jsonpath={.status.containerStatuses[0].restartCount}') == 1 ]] && sql 'select 1'
}

hairpin() { kube exec db-0 -- psql -h db -U postgres -At -c 'select 1'; }

privileged_pod_refused() {
	local answer
	! answer=$(kube run bad --image=none --privileged 2>&1) && [[ $answer == *'violates PodSecurity'* ]]
}

kubelet_streams() {
	kube logs db-0 | grep -q 'ready to accept connections' || return 1
	# Not by a function: its process would be a shell, and ending that would not end kubectl.
	"$CLUSTER_DIR/in-node.sh" kubectl --namespace selftest port-forward service/db 15432:5432 &
	local forward=$!
	wait_until 10 in_node bash -c 'exec 3<>/dev/tcp/127.0.0.1/15432'
	local outcome=$?
	kill "$forward"
	return $outcome
}

volume_recycled() {
	local volume
	volume=$(kube get persistentvolumeclaim data-db-0 -o 'jsonpath={.spec.volumeName}') && [[ -n $(ls -A "$STATE/volumes/$volume") ]] &&
		kube delete statefulset/db --wait && kube wait --for=delete pod/db-0 --timeout=${DEADLINE_SECONDS}s &&
		wait_until "$DEADLINE_SECONDS" volume_clean "$volume" &&
		kube apply -f "$WORK/selftest.yaml" && ready && wait_until "$DEADLINE_SECONDS" sql 'select 1' &&
		[[ $(sql "select count(*) from pg_tables where tablename = 'kept'") == 0 ]]
}

volume_clean() { # VOLUME
	[[ $(in_node kubectl get persistentvolume "$1" -o 'jsonpath={.status.phase}') == Available && -z $(ls -A "$STATE/volumes/$1") ]]
}

audit_to_service() {
	cat >"$WORK/policy.yaml" <<-'YAML'
		apiVersion: audit.k8s.io/v1
		kind: Policy
		omitStages: [RequestReceived]
		rules: [{level: Metadata, namespaces: [selftest], resources: [{group: "", resources: [configmaps]}]}]
	YAML
	cat >"$WORK/webhook.yaml" <<-'YAML'
		apiVersion: v1
		kind: Config
		current-context: trail
		clusters: [{name: trail, cluster: {server: "http://audit.selftest.svc/v1/kubernetes"}}]
		contexts: [{name: trail, context: {cluster: trail}}]
	YAML
	render "$CLUSTER_DIR/manifests/selftest-audit.yaml" | kube apply -f - || return 1
	"$CLUSTER_DIR/in-node.sh" socat -u TCP-LISTEN:9099,fork,reuseaddr "OPEN:$WORK/received,creat,append" &
	local listener=$!
	"$CLUSTER_DIR/apiserver.sh" restart --audit-to-trail "$WORK/webhook.yaml" "$WORK/policy.yaml" &&
		kube create configmap seen-by-the-audit-log && wait_until 20 grep -q seen-by-the-audit-log "$WORK/received"
	local outcome=$?
	kill "$listener" || return 1
	"$CLUSTER_DIR/apiserver.sh" restart && return $outcome
}

clean_up() {
	in_node kubectl delete namespace selftest --ignore-not-found --timeout=${DEADLINE_SECONDS}s >/dev/null 2>&1 || true
	rm -rf "$WORK"
}

main "$@"
