#!/usr/bin/env bash
# fuzz.sh TARGET SECONDS: tries inputs of a format for so long. With stable Rust: libFuzzer needs no more than the compiler's
# coverage, which nightly's tools ask for under another name. What it finds to be new grows in target/fuzz/found; a crash is a
# file that belongs, made small, into tests/fuzz/corpus/TARGET once it is fixed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
TARGET=$1 LIMIT_SECONDS=$2
ROOT=$(cd ../.. && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}/fuzz
HOST=$(rustc -vV | sed -n 's/^host: //p')

if [[ ! -f targets/$TARGET.rs ]]; then
	printf 'no such target: %s; there are %s\n' "$TARGET" "$(cd targets && echo *.rs | sed 's/\.rs//g')" >&2
	exit 2
fi

# The workspace's versions, and libfuzzer-sys'.
cp "$ROOT/Cargo.lock" Cargo.lock
RUSTC_WRAPPER=$PWD/rustc.sh cargo build --quiet --bin "$TARGET" --target "$HOST"

FOUND=$CARGO_TARGET_DIR/found/$TARGET CRASHES=$CARGO_TARGET_DIR/crashes/$TARGET
mkdir -p "$FOUND" "$CRASHES"
exec "$CARGO_TARGET_DIR/$HOST/debug/$TARGET" -max_total_time="$LIMIT_SECONDS" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
	-print_final_stats=1 -artifact_prefix="$CRASHES/" "$FOUND" "corpus/$TARGET"
