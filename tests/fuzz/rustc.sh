#!/usr/bin/env bash
# A compiler for cargo (RUSTC_WRAPPER) that adds libFuzzer's coverage to what reads events, and to nothing else: neither to
# build scripts nor to macros, which have no fuzzer to report to, nor to hundreds of crates that no input reaches.
set -euo pipefail
case " $* " in
*" --crate-name audittrail_collector "* | *" --crate-name serde_json "* | *" --crate-name audittrail_fuzz "*)
	if [[ " $* " == *" --target "* ]]; then
		set -- "$@" -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
			-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
			-Cllvm-args=-sanitizer-coverage-trace-compares
	fi
	;;
esac
exec "$@"
