# Runs a trail's Postgres: makes the database on the first start, then serves it. Works with the
# public postgres image and with Debian's packages; needs no entrypoint of either.
#
# PGDATA is on the volume. /credentials has the password of the one role that may connect,
# /tls the certificate. /run/postgresql and /tmp are empty at each start.

umask 077
PATH="$(echo /usr/lib/postgresql/*/bin | tr ' ' ':'):$PATH"
export PATH LC_ALL=C
user=audittrail
sockets=/var/run/postgresql

say() { echo "audittrail: $*" >&2; }

# A database is made beside its place and moved there when it is whole and on disk, so that a
# kill at any moment leaves either nothing or all of it.
make_database() {
	new=$PGDATA.new
	say "making the database"
	rm -rf "$new"
	initdb --pgdata="$new" --username=postgres --auth-local=trust --auth-host=reject \
		--encoding=UTF8 --locale=C --data-checksums >/dev/null

	# Two quotes for one: the password then stands in SQL whatever it consists of. Single-user
	# mode reads standard input, so it is in no argument and no environment.
	password=$(sed "s/'/''/g" /credentials/password)
	postgres --single -F -j -D "$new" -c exit_on_error=on -c password_encryption=scram-sha-256 postgres >/dev/null <<-SQL
		CREATE ROLE $user LOGIN PASSWORD '$password';

		CREATE DATABASE $user OWNER $user;

	SQL
	unset password

	sync
	mv "$new" "$PGDATA"
	sync
}

# One role, one database, TLS only. Whatever matches no line is refused. The superuser exists
# on the socket, which no other container can reach.
write_access_rules() {
	cat >"$sockets/pg_hba.conf" <<-RULES
		local   all    postgres                trust
		hostssl $user  $user        all        scram-sha-256
	RULES
}

[ -s "$PGDATA/PG_VERSION" ] || make_database
write_access_rules

postgres -D "$PGDATA" \
	-c listen_addresses='*' -c port=5432 -c unix_socket_directories="$sockets" \
	-c hba_file="$sockets/pg_hba.conf" -c password_encryption=scram-sha-256 \
	-c ssl=on -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key -c ssl_min_protocol_version=TLSv1.2 \
	-c fsync=on -c full_page_writes=on -c synchronous_commit=on \
	-c logging_collector=off -c log_destination=stderr &
server=$!

# Kubernetes sends TERM, which makes Postgres wait for its clients; INT is its fast shutdown.
trap 'kill -INT $server' TERM INT

status=0
wait $server || status=$?
# `wait` also returns when the trap ran; the server may still be writing its checkpoint.
while kill -0 $server 2>/dev/null; do
	status=0
	wait $server || status=$?
done
exit $status
