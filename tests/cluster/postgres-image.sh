#!/usr/bin/env bash
# Makes a Postgres image out of Debian packages, once per version, in the cache; prints its path, a docker-archive.
# The server runs as uid 999 (user postgres); initdb, postgres, pg_ctl and psql are on the PATH; there is a /bin/sh.
set -euo pipefail
# shellcheck source=tests/cluster/settings.sh
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
# shellcheck source=tests/cluster/progress.sh
. "$CLUSTER_DIR/progress.sh"
# shellcheck source=tests/cluster/pack-image.sh
. "$CLUSTER_DIR/pack-image.sh"

USER_ID=999
BIN=/usr/lib/postgresql/$POSTGRES_MAJOR/bin

# Not in the image: what people read, what only the JIT compiler and Debian's Perl wrappers need, what only building needs.
UNUSED=(
	/usr/share/doc /usr/share/man /usr/share/info /usr/share/locale /usr/share/i18n /usr/share/perl /usr/share/perl5
	/usr/lib/x86_64-linux-gnu/perl '/usr/lib/x86_64-linux-gnu/libLLVM*' '/usr/lib/x86_64-linux-gnu/libz3*'
	/usr/lib/llvm-14 "/usr/lib/postgresql/$POSTGRES_MAJOR/lib/bitcode" "/usr/lib/postgresql/$POSTGRES_MAJOR/lib/llvmjit*"
	/usr/lib/x86_64-linux-gnu/systemd /usr/lib/systemd /usr/lib/udev
	'/var/lib/apt/lists/*' '/var/cache/apt/*' '/var/cache/debconf/*' '/var/log/*' '/var/lib/dpkg/info/*' "/var/lib/postgresql/$POSTGRES_MAJOR"
	/etc/ssl/private/ssl-cert-snakeoil.key
)

main() {
	local tar
	tar=$CACHE/postgres-$POSTGRES_MAJOR-$DEBIAN_SUITE-$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-8).tar
	[[ -f $tar ]] || make_image "$tar"
	echo "$tar"
}

make_image() { # TAR
	local work root
	work=$CACHE/making.postgres
	mkdir -p "$CACHE"
	exec 9>"$CACHE/postgres.lock"
	flock 9
	[[ ! -f $1 ]] || return 0
	rm -rf "$work"
	mkdir "$work"
	root=$work/root
	say "making the Postgres image from Debian packages: about a minute"
	with_progress "packages" last_line "$work/log" debian_root "$root" || fail "mmdebstrap could not make the Postgres image (its words are above)"
	remove_unused "$root"
	install -d -o $USER_ID -g $USER_ID -m 2775 "$root/run/postgresql"
	pack_image "$root" "$IMAGE_PREFIX/postgres:$POSTGRES_MAJOR" "$(image_config)" "$1"
	rm -rf "$work"
}

# The user comes before the package, whose own script would take the next free number.
debian_root() { # ROOT
	# shellcheck disable=SC2016  # $1 is for the hook's shell
	mmdebstrap --mode=root --variant=essential --include="postgresql-$POSTGRES_MAJOR,ca-certificates" \
		--aptopt='APT::Install-Recommends "false"' \
		--dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/man/* \
		--dpkgopt=path-exclude=/usr/share/locale/* --dpkgopt=path-exclude=/usr/lib/x86_64-linux-gnu/libLLVM* \
		--essential-hook="echo postgres:x:$USER_ID: >>\"\$1/etc/group\"" \
		--essential-hook="echo postgres:x:$USER_ID:$USER_ID::/var/lib/postgresql:/bin/sh >>\"\$1/etc/passwd\"" \
		"$DEBIAN_SUITE" "$1"
}

remove_unused() { # ROOT
	local path
	for path in "${UNUSED[@]}" '/dev/*'; do
		# The pattern is meant to expand, under ROOT.
		# shellcheck disable=SC2086
		rm -rf "$1"$path
	done
}

image_config() {
	printf '{"User":"%s:%s","Env":["PATH=%s:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8"],"Cmd":["postgres"],"WorkingDir":"/var/lib/postgresql"}' \
		$USER_ID $USER_ID "$BIN"
}

main "$@"
