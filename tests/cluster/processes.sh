# The node's processes: how they are started, recognised and ended. Sourced.
#
# The record of what is ours is kept twice. A cgroup of our own holds every process that the node ever started, the
# containers' included, and no process of anybody else can be in it; and $STATE/pids has `pid start-time` for each daemon,
# so that a number which was given away again is not mistaken for ours.
# shellcheck shell=bash

CGROUP=$CLUSTER_NAME
# The API server shuts its door at once, sends its last audit events within a second, and then waits for watches that will not
# end by themselves.
END_DEADLINE_SECONDS=3

# The cgroup hierarchies of this machine: one with cgroup v2, one per controller with v1.
hierarchies() {
	if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
		echo /sys/fs/cgroup
		return
	fi
	local dir
	for dir in /sys/fs/cgroup/*/; do
		# cpu and cpuacct are often two links to one; `unified` is v2's, without controllers here.
		[[ -L ${dir%/} || $dir == */unified/ ]] || echo "${dir%/}"
	done
}

# The hierarchy that is asked who is ours.
record_hierarchy() {
	if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then echo /sys/fs/cgroup; else echo /sys/fs/cgroup/pids; fi
}

make_cgroup() {
	local dir
	while read -r dir; do
		mkdir -p "$dir/$CGROUP/daemons"
		case $dir in
		/sys/fs/cgroup) delegate_controllers "$dir" ;;
		*/cpuset) inherit_cpuset "$dir" "$dir/$CGROUP" ;;
		esac
	done < <(hierarchies)
}

# cgroup v2: a child has the controllers that its parent hands down.
delegate_controllers() { # ROOT
	local controller parent
	for parent in "$1" "$1/$CGROUP"; do
		while read -r -d ' ' controller; do
			echo "+$controller" >"$parent/cgroup.subtree_control" 2>/dev/null || true
		done < <(tr '\n' ' ' <"$parent/cgroup.controllers")
	done
}

# cgroup v1: a new cpuset is empty, and nothing can live in it.
inherit_cpuset() { # FROM TO
	local file
	for file in cpuset.cpus cpuset.mems; do
		cat "$1/$file" >"$2/$file"
	done
}

remove_cgroup() {
	local dir
	# runc uses v2's hierarchy too where there is one beside v1's.
	while read -r dir; do
		[[ ! -d $dir/$CGROUP ]] || find "$dir/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null || true
	done < <(hierarchies && echo /sys/fs/cgroup/unified)
}

# Every process of the node, by its cgroup.
our_processes() {
	local root
	root=$(record_hierarchy)/$CGROUP
	[[ ! -d $root ]] || find "$root" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

join_cgroup() { # PID; out of the caller's memory limits, into our record
	local dir
	for dir in "$(record_hierarchy)" /sys/fs/cgroup/memory; do
		[[ ! -d $dir/$CGROUP ]] || echo "$1" >"$dir/$CGROUP/daemons/cgroup.procs"
	done
}

# Field 22 of stat, counted after the command's name, which may hold spaces. A zombie, which waits for its parent, has ended.
start_time() { # PID
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	# shellcheck disable=SC2086
	set -- ${stat##*) }
	[[ $1 != Z ]] && echo "${20}"
}

# Starts a daemon inside the node's namespaces, in our cgroup, in a session of its own.
start() { # NAME COMMAND...
	local name=$1
	shift
	detached "$CLUSTER_DIR/in-node.sh" "$@" >>"$STATE/log/$name.log" 2>&1 &
	record "$name" $!
}

# In a session of its own and without the caller's open files: a daemon that kept one would hold a lock for ever, or the pipe
# of whoever reads our output to its end.
detached() { # COMMAND...
	local fd
	for fd in /proc/self/fd/*; do
		fd=${fd##*/}
		((fd <= 2)) || eval "exec $fd>&-"
	done
	exec setsid "$@" </dev/null
}

record() { # NAME PID
	join_cgroup "$2"
	echo "$2 $(start_time "$2")" >"$STATE/pids/$1"
	disown "$2" # its end is not this shell's news
}

recorded_pid() { # NAME; fails when that process is gone, or the number belongs to another by now
	local pid began
	read -r pid began 2>/dev/null <"$STATE/pids/$1" || return 1
	[[ -n $began && $(start_time "$pid") == "$began" ]] && echo "$pid"
}

alive() { recorded_pid "$1" >/dev/null; } # NAME

stop() { # NAME
	local pid
	if pid=$(recorded_pid "$1"); then
		kill -TERM "$pid" 2>/dev/null || true
		wait_until "$END_DEADLINE_SECONDS" not alive "$1" || kill -KILL "$pid" 2>/dev/null || true
	fi
	rm -f "$STATE/pids/$1"
}

# Ends all that is left, containers and their shims included. What the node ran is thrown away, so nothing needs a farewell.
kill_all_ours() {
	local pids
	for _ in $(seq 50); do
		pids=$(our_processes)
		[[ -n $pids ]] || return 0
		# shellcheck disable=SC2086
		kill -KILL $pids 2>/dev/null || true
		sleep 0.2
	done
	say "still running after SIGKILL: $(tr '\n' ' ' <<<"$pids")"
	return 1
}

not() { if "$@"; then return 1; fi; }

# Waits for a condition, not for a time. The deadline only bounds how long a failure takes.
wait_until() { # SECONDS COMMAND...
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || return 1
		sleep 0.2
	done
}
