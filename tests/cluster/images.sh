#!/usr/bin/env bash
# Builds the project's images without a Docker engine, and puts them where a cluster finds them.
#
#   images.sh build            compiles the programs, packs target/images/*.tar; does nothing where nothing changed
#   images.sh load [CONTEXT]   imports them: into our node, or into the cluster of a kubeconfig context
#   images.sh route [CONTEXT]  prints how `load` would do it (node, kind, minikube, registry), or says why it cannot
#   images.sh prefix [CONTEXT] prints what stands before /operator:dev, /collector:dev, /source:dev, /postgres:15
#   images.sh remove           deletes what `build` made, the compiled programs excepted
#
# REGISTRY=host/path sends them to a registry by push, for a cluster that is neither kind nor minikube.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
# shellcheck source=tests/cluster/progress.sh
. "$CLUSTER_DIR/progress.sh"

# image, cargo package, binary, Dockerfile's directory
PROGRAMS=(
	"operator audittrail-operator audittrail-operator operator"
	"collector audittrail-collector collector collector"
	"source audittrail-source audittrail-source tests/source"
)
TARGET=x86_64-unknown-linux-gnu
# A target directory of its own: the flags below would make every other build compile all again.
TARGET_DIR=${AUDITTRAIL_STATIC_TARGET:-$REPO_DIR/target/static}
ARCHIVES=$REPO_DIR/target/images
CA_CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

main() {
	local command=${1:-} context=${2:-} way
	# buildah keeps a list of blobs there whatever its --root is; where it was not before, it does not stay.
	[[ -e /var/lib/containers ]] || trap 'rm -rf /var/lib/containers/cache; rmdir /var/lib/containers 2>/dev/null || true' EXIT
	case $command in
	build) build_images ;;
	load)
		way=$(route "$context")
		load_images "$way" "$context"
		;;
	route) route "$context" ;;
	prefix)
		way=$(route "$context")
		if [[ $way == registry ]]; then echo "$REGISTRY"; else echo "$IMAGE_PREFIX"; fi
		;;
	remove) rm -rf "$ARCHIVES" ;;
	*) fail "usage: images.sh build | load [CONTEXT] | route [CONTEXT] | prefix [CONTEXT] | remove" ;;
	esac
}

build_images() {
	"$CLUSTER_DIR/tools.sh" images
	compile
	mkdir -p "$ARCHIVES"
	local program image package binary dockerfile_dir
	for program in "${PROGRAMS[@]}"; do
		read -r image package binary dockerfile_dir <<<"$program"
		build_image "$image" "$TARGET_DIR/$TARGET/release/$binary" "$REPO_DIR/$dockerfile_dir/Dockerfile"
	done
	ln -sf "$("$CLUSTER_DIR/postgres-image.sh")" "$ARCHIVES/postgres.tar"
	basename "$(readlink "$ARCHIVES/postgres.tar")" >"$ARCHIVES/postgres.key"
}

compile() {
	local program packages=() image package rest
	for program in "${PROGRAMS[@]}"; do
		# shellcheck disable=SC2034
		read -r image package rest <<<"$program"
		packages+=(-p "$package")
	done
	mkdir -p "$TARGET_DIR"
	[[ -d $TARGET_DIR/$TARGET ]] || say "compiling our programs: about 7 minutes on 2 cores when nothing is compiled"
	(
		cd "$REPO_DIR"
		export RUSTFLAGS='-C target-feature=+crt-static'
		with_progress "our programs" last_line "$TARGET_DIR/build.log" \
			cargo build --release --locked --target $TARGET --target-dir "$TARGET_DIR" "${packages[@]}"
	) || fail "our programs did not compile (the compiler's words are above)"
}

# Packed again only when the program, the Dockerfile or the certificates changed.
build_image() { # IMAGE BINARY DOCKERFILE
	local image=$1 binary=$2 dockerfile=$3 key tar=$ARCHIVES/$1.tar
	[[ -f $binary ]] || fail "no program at $binary"
	key=$(cat "$binary" "$dockerfile" "$CA_CERTIFICATES" | sha256sum | cut -d' ' -f1)
	if [[ -f $tar && $(cat "$ARCHIVES/$image.key" 2>/dev/null) == "$key" ]]; then
		return
	fi
	say "  image $IMAGE_PREFIX/$image:$IMAGE_TAG"
	local work
	work=$(mktemp -d "$ARCHIVES/building.XXXXXX")
	mkdir "$work/context"
	cp "$binary" "$CA_CERTIFICATES" "$work/context/"
	if ! bud "$work" "$IMAGE_PREFIX/$image:$IMAGE_TAG" "$dockerfile" >"$work/log" 2>&1; then
		tail -n "$PROGRESS_LOG_LINES" "$work/log" >&2
		rm -rf "$work"
		fail "buildah could not build $dockerfile (its words are above)"
	fi
	mv "$work/image.tar" "$tar"
	echo "$key" >"$ARCHIVES/$image.key"
	rm -rf "$work"
}

# vfs and chroot: neither needs anything of the kernel that a container or a small machine may lack.
bud() { # WORK REFERENCE DOCKERFILE
	in_storage "$1" bud --isolation chroot --timestamp 0 --build-arg PROGRAM=given --tag "$2" --file "$3" "$1/context"
	in_storage "$1" push "$2" "docker-archive:$1/image.tar:$2"
}

# A storage that lives as long as one build, so that nothing of buildah's stays on the machine.
in_storage() { # WORK ARGUMENT...
	local work=$1
	shift
	printf '[network]\nnetwork_config_dir = "%s"\n' "$work/networks" >"$work/containers.conf"
	CONTAINERS_CONF=$work/containers.conf buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"
}

# Which way leads into a cluster. Refuses before anything is touched.
route() { # [CONTEXT]
	local context=$1
	if [[ -n ${REGISTRY:-} && -n $context ]]; then
		echo registry
	elif [[ -z $context || $context == "$CLUSTER_NAME" ]]; then
		echo node
	elif [[ $context == kind-* ]]; then
		command -v kind >/dev/null || fail "context $context looks like a kind cluster, and there is no \`kind\` command to load images with: install it, or give a registry (REGISTRY=host/path)"
		echo kind
	elif is_minikube "$context"; then
		echo minikube
	else
		fail "no way to bring images to context $context: it is neither kind (kind-NAME) nor a minikube profile. Give a registry that it pulls from: REGISTRY=host/path"
	fi
}

is_minikube() { command -v minikube >/dev/null && minikube profile list --output json 2>/dev/null | grep -q "\"Name\": *\"$1\""; }

load_images() { # ROUTE CONTEXT
	local tar
	for tar in "$ARCHIVES"/*.tar; do
		[[ -f $tar ]] || fail "no images in $ARCHIVES: images.sh build makes them"
		"load_$1" "$(readlink -f "$tar")" "$(cat "${tar%.tar}.key")" "$2" "$(basename "$tar" .tar)"
	done
}

load_node() { # TAR KEY CONTEXT IMAGE
	local done_before=$STATE/imported/$4
	[[ $(cat "$done_before" 2>/dev/null) != "$2" ]] || return 0
	say "  importing $4"
	"$CLUSTER_DIR/in-node.sh" ctr images import "$1" >"$STATE/log/import.log" 2>&1 ||
		fail "containerd did not take image $4: $(last_line "$STATE/log/import.log")"
	mkdir -p "$(dirname "$done_before")"
	echo "$2" >"$done_before"
}

load_kind() { # TAR KEY CONTEXT IMAGE
	say "  kind load $4"
	kind load image-archive "$1" --name "${3#kind-}"
}

load_minikube() { # TAR KEY CONTEXT IMAGE
	say "  minikube image load $4"
	minikube --profile "$3" image load "$1"
}

load_registry() { # TAR KEY CONTEXT IMAGE
	local work tag=$IMAGE_TAG image
	[[ $4 != postgres ]] || tag=$POSTGRES_MAJOR
	say "  pushing $REGISTRY/$4:$tag"
	work=$(mktemp -d "$ARCHIVES/pushing.XXXXXX")
	if ! { image=$(in_storage "$work" pull --quiet "docker-archive:$1") &&
		in_storage "$work" push --quiet --tls-verify="${REGISTRY_TLS_VERIFY:-true}" "$image" "docker://$REGISTRY/$4:$tag"; }; then
		rm -rf "$work"
		fail "could not push to $REGISTRY: are you logged in (buildah login)?"
	fi
	rm -rf "$work"
}

main "$@"
