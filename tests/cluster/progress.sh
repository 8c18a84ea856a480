# Long work that is seen to go on: one line at least every half minute. Sourced.
# shellcheck shell=bash

PROGRESS_INTERVAL_SECONDS=20
PROGRESS_LOG_LINES=25

minutes() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# Runs a command in the background with its output in a log, and prints a line of progress now and then.
# DESCRIBE is a function that gets the log's path and prints where the work stands.
with_progress() { # TITLE DESCRIBE LOG COMMAND...
	local title=$1 describe=$2 log=$3 began=$SECONDS said=$SECONDS work
	shift 3
	"$@" >"$log" 2>&1 &
	work=$!
	# An interrupted run must not leave its compiler running.
	# shellcheck disable=SC2064
	trap "kill $work 2>/dev/null || true" INT TERM
	while kill -0 "$work" 2>/dev/null; do
		sleep 0.5
		if ((SECONDS - said >= PROGRESS_INTERVAL_SECONDS)); then
			said=$SECONDS
			say "  $(minutes $((SECONDS - began))) $title: $("$describe" "$log")"
		fi
	done
	trap - INT TERM
	if ! wait "$work"; then
		tail -n "$PROGRESS_LOG_LINES" "$log" >&2
		return 1
	fi
	say "  $(minutes $((SECONDS - began))) $title: done"
}

last_line() { tail -n 1 "$1" | cut -c1-100; }
