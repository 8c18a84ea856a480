#!/usr/bin/env bash
# The demo's story on the cluster that KUBECONFIG names: `story.sh` tells it, `story.sh remove` takes it back. Run by demo.sh.
set -euo pipefail
REPO_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$REPO_DIR"
CONTEXT=${CONTEXT:-}
STEPS=7
READY_WITHIN=180s
SEEN_WITHIN_SECONDS=60
COLLECTOR=acme-collector.acme.svc
WORK=$(mktemp -d)
FORWARD_PID=
trap 'end_port_forward; rm -rf "$WORK"' EXIT

story() {
	title 3 "The operator, by helm install"
	install_operator
	title 4 "A workspace: its trail, its forwarding, and a source that prints what it receives"
	apply_resources
	open_collector
	title 5 "Real input"
	post_events
	kubernetes_audit
	title 6 "What an owner sees, what arrives, what the toggle does"
	owner_asks
	source_receives
	toggle
	stranger_is_refused
	title 7 "How to go on"
	how_to_go_on
}

install_operator() {
	local prefix
	prefix=$(tests/cluster/images.sh prefix "$CONTEXT")
	run helm upgrade --install audittrail charts/audittrail --namespace audittrail-system --create-namespace --wait --timeout 3m \
		--set-string "images.operator.repository=$prefix/operator,images.operator.tag=dev" \
		--set-string "images.collector.repository=$prefix/collector,images.collector.tag=dev" \
		--set-string "images.postgres.repository=$prefix/postgres,images.postgres.tag=15"
}

apply_resources() {
	local prefix
	prefix=$(tests/cluster/images.sh prefix "$CONTEXT")
	sed "s|localhost/audittrail/source|$prefix/source|" examples/source.yaml >"$WORK/source.yaml"
	run kubectl apply -f "$WORK/source.yaml" -f examples/quickstart.yaml
	run kubectl -n acme wait --for=condition=Ready --timeout="$READY_WITHIN" audittrail/acme auditforwarding/to-source || not_ready
	run kubectl -n acme get audittrails,auditforwardings
}

not_ready() {
	kubectl -n acme get audittrails,auditforwardings,pods -o wide
	kubectl -n acme get events --sort-by=.lastTimestamp | tail -n 20
	kubectl -n audittrail-system logs deployment/audittrail-operator --tail=20
	fail "the trail is not Ready; above is what it says of itself"
}

# The same way in on every cluster: through the API server, to this machine's localhost, a name the certificate has.
open_collector() {
	kubectl -n acme get configmap acme-ca -o 'jsonpath={.data.ca\.crt}' >"$WORK/ca.crt"
	WRITE_KEY=$(kubectl -n acme get secret acme-write-key -o 'jsonpath={.data.writeKey}' | base64 -d)
	kubectl -n acme port-forward service/acme-collector :443 >"$WORK/forward" 2>&1 &
	FORWARD_PID=$!
	OWNER_TOKEN=$(owner_token)
	within "$SEEN_WITHIN_SECONDS" grep -q 'Forwarding from 127' "$WORK/forward" || fail "kubectl port-forward: $(cat "$WORK/forward")"
	URL=https://localhost:$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$WORK/forward" | head -n 1)
}

end_port_forward() { [[ -z $FORWARD_PID ]] || kill "$FORWARD_PID" 2>/dev/null || true; }

# curl with the trail's CA; -f would hide the collector's words.
collector() { # TOKEN PATH [CURL-ARGUMENT...]
	local token=$1 path=$2
	shift 2
	curl --silent --show-error --max-time 20 --cacert "$WORK/ca.crt" -H "Authorization: Bearer $token" "$@" "$URL$path"
}

write() { collector "$WRITE_KEY" "$1" --json "$2" && echo; } # PATH BODY

post_events() {
	say "Ada's workspace has a day: Bo disables the production warehouse by mistake (examples/events.json)."
	say "\$ curl --json @examples/events.json https://$COLLECTOR/v1/events   # with the write key"
	write /v1/events @examples/events.json
}

kubernetes_audit() {
	if [[ -n $CONTEXT ]]; then
		say "This cluster's API server is not ours to restart: a recorded audit log is replayed instead (examples/kubernetes-audit.json)."
		write /v1/kubernetes @examples/kubernetes-audit.json
		return
	fi
	say "The API server now sends its audit log to the trail (examples/audit-policy.yaml says what of it)."
	audit_kubeconfig >"$WORK/audit.kubeconfig"
	end_port_forward
	tests/cluster/apiserver.sh restart --audit-to-trail "$WORK/audit.kubeconfig" examples/audit-policy.yaml
	open_collector
	run kubectl -n acme create configmap hello --from-literal=from=demo
	run kubectl -n acme delete configmap hello
	within "$SEEN_WITHIN_SECONDS" audit_seen || fail "what kubectl did is not in the trail after $SEEN_WITHIN_SECONDS s"
	say "Both are in the trail:"
	owner_get '/v1/events?resource=acme/hello' | events_short
}

audit_kubeconfig() {
	cat <<-KUBECONFIG
		apiVersion: v1
		kind: Config
		clusters:
		  - name: trail
		    cluster:
		      server: https://$(kubectl -n acme get service acme-collector -o 'jsonpath={.spec.clusterIP}')/v1/kubernetes
		      tls-server-name: $COLLECTOR
		      certificate-authority-data: $(base64 -w 0 "$WORK/ca.crt")
		users:
		  - name: api-server
		    user: {token: $WRITE_KEY}
		contexts:
		  - name: trail
		    context: {cluster: trail, user: api-server}
		current-context: trail
	KUBECONFIG
}

audit_seen() { owner_get '/v1/events?resource=acme/hello&type=Kubernetes%20Resource%20Deleted' | grep -q '"sequence"'; }

# Ada is an owner by spec.access.owners: only owners may mint a token of acme-owner.
owner_token() { kubectl --as ada@acme.example -n acme create token acme-owner --audience "$COLLECTOR"; }

owner_get() { collector "$OWNER_TOKEN" "$1" && echo; } # PATH

owner_asks() {
	say "Who touched the warehouse? (by resource)"
	owner_get '/v1/events?resource=whs_31' | events_short
	say "What did Bo do? (by actor)"
	owner_get '/v1/events?actor=usr_bo' | events_short
	say "Which warehouses were disabled? (by event), as CSV"
	owner_get '/v1/events.csv?type=Warehouse%20Disabled'
}

# One line an event: sequence, time, type, actor. Not every machine has jq.
events_short() {
	sed 's/{"sequence"/\n&/g' |
		sed -n 's/^{"sequence":\([0-9]*\).*"timestamp":"\([^"]*\)".*,"type":"\([^"]*\)","actor":{[^}]*"id":"\([^"]*\)".*/  \1  \2  \3  by \4/p'
}

source_receives() {
	say "The source has received (kubectl -n audit-source logs deployment/audit-source):"
	within "$SEEN_WITHIN_SECONDS" source_has 'Warehouse Enabled' || fail "the source has not received the events"
	# The last thing that the owner did; who looks is in the trail like everything else.
	within "$SEEN_WITHIN_SECONDS" source_has 'Audit Trail Exported' || fail "the source has not received that an owner looked"
	kubectl -n audit-source logs deployment/audit-source --tail=16
}

source_has() { kubectl -n audit-source logs deployment/audit-source | grep -q "$1"; }

toggle() {
	say "Off: events go on being stored, nothing is sent."
	run kubectl -n acme patch auditforwarding to-source --type=merge --patch '{"spec":{"enabled":false}}'
	run kubectl -n acme wait --for='jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Disabled' --timeout=30s auditforwarding/to-source
	run kubectl -n acme get auditforwardings
	write /v1/events '{"type":"User Removed","actor":{"type":"user","id":"usr_ada"},"resource":{"type":"user","id":"usr_cleo"}}'
	say "On: it goes on where it stopped."
	run kubectl -n acme patch auditforwarding to-source --type=merge --patch '{"spec":{"enabled":true}}'
	run kubectl -n acme wait --for='jsonpath={.status.conditions[?(@.type=="Ready")].reason}=SourceAccepts' --timeout=60s auditforwarding/to-source
	within "$SEEN_WITHIN_SECONDS" source_has 'User Removed' || fail "the source has not received what was stored while Off"
	kubectl -n audit-source logs deployment/audit-source | grep 'User Removed'
	run kubectl -n acme get auditforwardings
}

stranger_is_refused() {
	say "An account that is not an owner, with a valid token for this trail:"
	local token
	token=$(kubectl -n acme create token default --audience "$COLLECTOR")
	collector "$token" /v1/events --write-out '\nHTTP %{http_code}\n' | tee "$WORK/refused"
	grep -q '^HTTP 403' "$WORK/refused" || fail "a stranger was not refused"
	say "And one that tries to become an owner:"
	! kubectl --as mallory@acme.example -n acme create token acme-owner --audience "$COLLECTOR" 2>&1 || fail "a stranger got an owner's token"
}

how_to_go_on() {
	local suffix=${CONTEXT:+ CONTEXT=$CONTEXT}
	cat <<-WORDS
		A shell with kubectl on this cluster:     make demo-shell$suffix
		There, the collector at localhost:8443:   kubectl -n acme port-forward service/acme-collector 8443:443 &
		Its CA:                                   kubectl -n acme get configmap acme-ca -o 'jsonpath={.data.ca\.crt}' >ca.crt
		An owner's token:                         TOKEN=\$(kubectl -n acme create token acme-owner --audience $COLLECTOR)
		Ask:                                      curl --cacert ca.crt -H "Authorization: Bearer \$TOKEN" https://localhost:8443/v1/events
		The context:                              $(kubectl config current-context)
		Remove everything:                        make demo-down$suffix
	WORDS
}

remove() {
	kubectl delete --ignore-not-found --wait --timeout=120s -f examples/quickstart.yaml -f examples/source.yaml
	helm uninstall audittrail --namespace audittrail-system --ignore-not-found --wait
	kubectl delete --ignore-not-found customresourcedefinition audittrails.audittrail.dev auditforwardings.audittrail.dev
	kubectl delete --ignore-not-found namespace audittrail-system
}

title() { printf '\n=== %s/%s  %s\n' "$1" "$STEPS" "$2"; }
say() { printf '%s\n' "$*"; }
fail() {
	printf 'demo: ERROR: %s\n' "$*" >&2
	exit 1
}

# Shows a command, then runs it.
run() {
	printf '$ %s\n' "${*//$REPO_DIR\//}"
	"$@"
}

# Waits until a command succeeds.
within() { # SECONDS COMMAND...
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS < deadline)) || return 1
		sleep 0.5
	done
}

case ${1:-} in
'') story ;;
remove) remove ;;
*) fail "usage: story.sh [remove]" ;;
esac
