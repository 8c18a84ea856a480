# Packs a directory as a docker-archive of one layer, which every container engine imports. By hand, because it is a tar in a
# tar with two lists, and needs no engine. Sourced.
# shellcheck shell=bash

# CONFIG is the image configuration's `config` object (https://github.com/opencontainers/image-spec, config.md) as JSON.
# The same content gives the same bytes: no time of day, no order of directory entries.
pack_image() { # ROOT REFERENCE CONFIG TAR
	local root=$1 reference=$2 config=$3 tar=$4 work layer digest
	work=$(mktemp -d "$tar.XXXXXX")
	layer=$work/layer.tar
	tar --create --file "$layer" --directory "$root" --sort=name --mtime=@0 --numeric-owner --xattrs .
	digest=$(sha256sum "$layer" | cut -d' ' -f1)
	printf '{"architecture":"amd64","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
		"$config" "$digest" >"$work/config.json"
	printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$reference" >"$work/manifest.json"
	tar --create --file "$work/image.tar" --directory "$work" --mtime=@0 --numeric-owner manifest.json config.json layer.tar
	mv "$work/image.tar" "$tar"
	rm -rf "$work"
}

# A program of ours, FROM scratch, as nobody.
pack_program() { # BINARY REFERENCE TAR
	local root name
	name=$(basename "$1")
	root=$(mktemp -d)
	chmod 755 "$root"
	install -m 755 "$1" "$root/$name"
	pack_image "$root" "$2" "{\"Entrypoint\":[\"/$name\"],\"User\":\"65532:65532\"}" "$3"
	rm -rf "$root"
}
