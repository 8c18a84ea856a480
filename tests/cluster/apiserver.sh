#!/usr/bin/env bash
# Restarts the node's API server, with its audit log sent to a webhook or without.
#
#   apiserver.sh restart                                     as up.sh started it
#   apiserver.sh restart --audit-to-trail KUBECONFIG POLICY  audit events by POLICY go to the server that KUBECONFIG names
#
# The node shares the API server's network and name server, so KUBECONFIG may name a Service (https://NAME.NAMESPACE.svc/…).
# Both files are copied; change them and call this again.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
for part in tool-dirs render processes node-state daemons; do
	# shellcheck source=/dev/null
	. "$CLUSTER_DIR/$part.sh"
done

# A trail shows an event within seconds, and after a trail's outage delivery goes on at once.
AUDIT_BATCH_MAX_WAIT=1s
AUDIT_INITIAL_BACKOFF=1s

main() {
	[[ ${1:-} == restart ]] || fail "usage: apiserver.sh restart [--audit-to-trail KUBECONFIG POLICY]"
	alive holder || fail "the node is not up: tests/cluster/up.sh starts it"
	case ${2:-} in
	'') rm -f "$STATE/kube-apiserver.extra" ;;
	--audit-to-trail) audit_flags "$3" "$4" >"$STATE/kube-apiserver.extra" ;;
	*) fail "unknown option $2" ;;
	esac
	stop kube-apiserver
	start_apiserver
	if ! wait_apiserver; then
		tail -n 15 "$STATE/log/kube-apiserver.log" >&2
		fail "the API server did not come back (its last lines are above)"
	fi
	say "the API server is ready again"
}

audit_flags() { # KUBECONFIG POLICY
	local dir=$STATE/audit
	[[ -r $1 && -r $2 ]] || fail "cannot read $1 or $2"
	mkdir -p "$dir"
	install -m 600 "$1" "$dir/webhook.kubeconfig"
	install -m 600 "$2" "$dir/policy.yaml"
	cat <<-FLAGS
		--audit-policy-file=$dir/policy.yaml
		--audit-webhook-config-file=$dir/webhook.kubeconfig
		--audit-webhook-mode=batch
		--audit-webhook-batch-max-wait=$AUDIT_BATCH_MAX_WAIT
		--audit-webhook-initial-backoff=$AUDIT_INITIAL_BACKOFF
	FLAGS
}

main "$@"
