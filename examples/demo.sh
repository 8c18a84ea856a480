#!/usr/bin/env bash
# `make demo`, `make demo-down`, `make demo-shell`: the main job on a real cluster. CONTEXT names a cluster of yours; without it a
# single-node cluster is built, in a network namespace of its own.
set -euo pipefail
REPO_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CLUSTER=$REPO_DIR/tests/cluster
CONTEXT=${CONTEXT:-}
STEPS=7

say() { printf '%s\n' "$*"; }

main() {
	case ${1:-} in
	up) up ;;
	down) down ;;
	shell) in_cluster "${SHELL:-/bin/bash}" ;;
	*) say "usage: demo.sh up | down | shell" >&2 && exit 2 ;;
	esac
}

up() {
	say "The audit trail of a workspace, for real: a cluster, the operator, a trail in Postgres, its forwarding to a source."
	say "The first run on a machine builds Kubernetes from source and takes about 20 minutes on 2 cores; the next ones 2."
	cluster
	in_cluster "$REPO_DIR/examples/story.sh"
}

cluster() {
	if [[ -n $CONTEXT ]]; then
		title 1 "The cluster: context $CONTEXT of your kubeconfig, and no other"
		"$CLUSTER/preflight.sh" context "$CONTEXT"
		"$CLUSTER/tools.sh" helm
	else
		title 1 "The cluster: a real node of our own"
		"$CLUSTER/preflight.sh" node
		"$CLUSTER/up.sh"
	fi
	title 2 "Our images, without a Docker engine"
	"$CLUSTER/images.sh" build
	"$CLUSTER/images.sh" load "$CONTEXT"
}

title() { printf '\n=== %s/%s  %s\n' "$1" "$STEPS" "$2"; }

# Runs a command with kubectl, helm and the one context set up, and no other context within reach.
in_cluster() {
	if [[ -z $CONTEXT ]]; then
		"$CLUSTER/in-node.sh" "$@"
		return
	fi
	# One context's credentials, for as long as this runs.
	ONLY=$(mktemp -d)
	trap 'rm -rf "$ONLY"' EXIT
	kubectl config view --minify --flatten --context "$CONTEXT" >"$ONLY/kubeconfig"
	eval "$("$CLUSTER/tools.sh" env)"
	KUBECONFIG=$ONLY/kubeconfig "$@"
}

down() {
	if [[ -n $CONTEXT ]]; then
		"$CLUSTER/preflight.sh" context "$CONTEXT"
		"$CLUSTER/tools.sh" helm
		in_cluster "$REPO_DIR/examples/story.sh" remove
	else
		"$CLUSTER/down.sh"
	fi
	"$CLUSTER/images.sh" remove
}

main "$@"
