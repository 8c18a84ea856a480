#!/usr/bin/env bash
# What people read with kubectl: every field is documented, and the columns answer "does it work?".
set -euo pipefail
KUBECTL=("$(dirname "${BASH_SOURCE[0]}")/../cluster/in-node.sh" kubectl)

fail() {
	printf 'ERROR: %s\n' "$*" >&2
	exit 1
}

# `kubectl explain` prints <no description> where the schema has none; --recursive leaves descriptions out, so each level is asked.
documented() { # FIELD
	local text
	text=$("${KUBECTL[@]}" explain "$1")
	[[ $text != *"<no description>"* && $text != *"<empty>"* ]] || fail "kubectl explain $1: a field has no description"
}

for field in audittrail.spec audittrail.spec.storage.managed audittrail.spec.storage.external audittrail.spec.collector \
	audittrail.spec.collector.tracing audittrail.spec.access audittrail.spec.ingest audittrail.spec.ingest.kubernetes audittrail.spec.catalogue \
	audittrail.spec.catalogue.eventTypes audittrail.status auditforwarding.spec auditforwarding.spec.source.httpApi \
	auditforwarding.spec.source.httpApi.create auditforwarding.spec.startFrom auditforwarding.spec.filter auditforwarding.spec.filter.include \
	auditforwarding.spec.delivery auditforwarding.status auditforwarding.status.createdSource; do
	documented "$field"
done

table=$("${KUBECTL[@]}" -n acme get audittrails,auditforwardings)
grep -qE 'audittrail.audittrail.dev/acme +Acme +True +Verified ' <<<"$table" || fail "no Ready trail in: $table"
grep -qE '^NAME +READY +ENABLED +DELIVERED +LAG +PARKED +AGE$' <<<"$table" || fail "other columns of forwardings in: $table"
grep -qE 'auditforwarding.audittrail.dev/to-source +True +true +[1-9][0-9]* +[0-9]+ +0 ' <<<"$table" || fail "no Ready forwarding in: $table"
wide=$("${KUBECTL[@]}" -n acme get auditforwardings -o wide)
grep -qE '^to-source .* acme +SourceAccepts +The source accepts since ' <<<"$wide" || fail "no reason of the forwarding in: $wide"
"${KUBECTL[@]}" get audit --all-namespaces >/dev/null || fail "the category audit lists nothing"
