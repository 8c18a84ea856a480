#!/usr/bin/env bash
# The node's PersistentVolumes: `volumes.sh make` prints them as YAML and lays out their directories; `volumes.sh recycle` is a
# daemon (started by up.sh, inside the node) that empties a volume whose claim was deleted and offers it again, as a provisioner would.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
# shellcheck source=tests/cluster/render.sh
. "$CLUSTER_DIR/render.sh"

VOLUMES=32
RECYCLE_INTERVAL_SECONDS=1

main() {
	case ${1:-} in
	make) make_volumes ;;
	recycle) recycle_for_ever ;;
	*) fail "usage: volumes.sh make | recycle" ;;
	esac
}

make_volumes() {
	local number volume
	for number in $(seq "$VOLUMES"); do
		volume=volume-$number
		fresh_directory "$STATE/volumes/$volume"
		VOLUME=$volume render "$CLUSTER_DIR/manifests/volume.yaml"
		echo ---
	done
}

# Root's and closed to others, as a new disk is: who mounts it needs an fsGroup.
fresh_directory() { # DIR
	rm -rf "$1"
	mkdir -p "$1"
	chmod 755 "$1"
}

recycle_for_ever() {
	local volume
	while sleep "$RECYCLE_INTERVAL_SECONDS"; do
		while read -r volume; do
			recycle "${volume#persistentvolume/}" || true
		done < <(released)
	done
}

released() {
	kubectl get persistentvolumes -l audittrail.dev/node-volume \
		-o 'jsonpath={range .items[?(@.status.phase=="Released")]}{.metadata.name}{"\n"}{end}' || true
}

recycle() { # VOLUME
	fresh_directory "$STATE/volumes/$1"
	kubectl patch persistentvolume "$1" --type=json -p '[{"op": "remove", "path": "/spec/claimRef"}]'
}

main "$@"
