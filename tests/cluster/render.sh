# Fills a configuration file's @NAMES@ with the settings of the same name. Sourced.
# shellcheck shell=bash

render() { # FILE
	local text name
	text=$(cat "$1")
	for name in STATE RUN CLUSTER_NAME NODE_ADDRESS POD_RANGE SERVICE_RANGE DNS_ADDRESS IMAGE_PREFIX COREDNS_VERSION POSTGRES_MAJOR VOLUME; do
		text=${text//"@$name@"/"${!name:-}"}
	done
	printf '%s\n' "$text"
}
