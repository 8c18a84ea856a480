# Where each tool stands in the cache, and what makes it another tool: its sources, and the flags it is linked with. Sourced.
# shellcheck shell=bash

# kube is one binary under the names of its commands; coredns, helm and pause are programs of the same Go module.
program_dir() { # NAME
	local version=$KUBERNETES_VERSION source=$CLUSTER_DIR/programs
	case $1 in
	coredns) version=$COREDNS_VERSION ;;
	helm) version=$HELM_VERSION ;;
	esac
	tool_dir "$1" "$version" "$(program_link_flags)" "$source/go.mod" "$source/$1/main.go"
}

containerd_dir() { tool_dir containerd "$CONTAINERD_VERSION" "$(containerd_link_flags)" "$CLUSTER_DIR/containerd/go.mod"; }

tool_dir() { # NAME VERSION LINK_FLAGS FILE...
	local name=$1 version=$2 flags=$3
	shift 3
	printf '%s/%s-%s-%s\n' "$CACHE" "$name" "$version" "$({ echo "$flags" && cat "$@"; } | sha256sum | cut -c1-8)"
}

# The versions are linked in, since a chart asks the API server for its version, and so does `kubectl version`.
program_link_flags() {
	local package
	printf -- '-s -w'
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		printf -- ' -X %s.gitVersion=v%s -X %s.gitMajor=1 -X %s.gitMinor=%s' $package "$KUBERNETES_VERSION" $package \
			$package "$(cut -d. -f2 <<<"$KUBERNETES_VERSION")"
	done
	printf -- ' -X helm.sh/helm/v4/internal/version.version=v%s' "$HELM_VERSION"
}

containerd_link_flags() { printf -- '-s -w -X github.com/containerd/containerd/v2/version.Version=v%s' "$CONTAINERD_VERSION"; }
