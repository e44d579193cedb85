#!/usr/bin/env bash
# What takes too long for every change: the tests that have a size, at a large one.
#
# Prints what each step took. Goes on after a step that failed, and exits with 1 in the end if
# any did. A step that cannot run here says SKIPPED and why.
#
# Usage: scripts/nightly.sh [CASES [PROFILE]]
#
# CASES of the models, default 1000: a few hours. PROFILE is cargo's, default release; with `dev`
# the programs are those of `cargo test`, so that a small run does not wait for a build.
#
# A smaller number of cases makes the steps that have a size smaller in the same proportion; the
# models under loom and Miri and the mutation check take as long as ever.
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never

cases=${1:-1000} profile=${2:-release}
case $cases in
  '' | *[!0-9]* | 0*) echo "usage: $0 [CASES [PROFILE]]" >&2; exit 2 ;;
esac
# A size, in proportion to the cases; at least 1.
size() { local n=$(($1 * cases / 1000)); echo $((n > 0 ? n : 1)); }

steps=() failed=0
step() { # NAME COMMAND...
  local name=$1 started=$SECONDS told=''
  shift
  printf '\n=== %s: %s\n' "$name" "$*"
  "$@" || { printf '\n=== FAILED %s\n' "$name"; failed=1 told='  FAILED'; }
  steps+=("$(printf '%6d s  %s%s' $((SECONDS - started)) "$name" "$told")")
}
skip() { # NAME REASON
  printf '\n=== SKIPPED %s: %s\n' "$1" "$2"
  steps+=("SKIPPED  $1: $2")
}
# One test of the runtime, with a setting.
runtime() { # NAME TEST SETTING...
  local name=$1 test=$2
  shift 2
  step "$name" env "$@" cargo test --profile "$profile" --workspace --test "$test"
}

# Always the whole workspace: a part of it chooses other features of the tensor library, which
# would be compiled once more.
#
# Locks are looked at in debug builds only, so the models run in one.
step 'model without faults' env TITANMEM_MODEL_CASES="$cases" \
  cargo test --workspace --test runtime_equals_its_model
step 'model with faults' env TITANMEM_MODEL_CASES="$cases" \
  cargo test --workspace --test faults_equal_the_model
step 'shaken locks' env TITANMEM_SHAKES="$(size 500)" \
  cargo test --workspace --test shaken_locks
runtime 'soak' soak TITANMEM_SOAK_SECONDS="$(size 3600)"
runtime 'killed' killed_at_any_time TITANMEM_KILLS="$(size 1000)"
runtime 'ended by a signal' closes_on_a_signal TITANMEM_SIGNALS="$(size 1000)"
runtime 'recall watch' recall_is_watched TITANMEM_WATCH_TRIALS="$(size 200)"
step 'backups beside a writer' env TITANMEM_BACKUPS="$(size 6000)" \
  cargo test --profile "$profile" --workspace --test one_writer_many_readers
step 'crash at every step' env TITANMEM_CRASH_SEEDS="$(size 20)" \
  cargo test --profile "$profile" --workspace --test crash_at_every_step
step 'killed at every system call' env TITANMEM_ALL_CALLS=1 \
  cargo test --profile "$profile" --workspace --test killed_at_every_system_call
step 'power cuts on ext4' scripts/block_crash.py --states "$(size 5000)" --seed "$(date +%j)"
step 'models under loom' cargo test --manifest-path verify/Cargo.toml --release
if cargo +nightly miri --version > /dev/null 2>&1; then
  step 'models under Miri' cargo +nightly miri test --manifest-path verify/Cargo.toml
else
  skip 'models under Miri' 'the nightly toolchain here has no Miri'
fi
step 'packages, compiled' scripts/package.py --compile
step 'mutation check' scripts/mutation_check.py

printf '\n--- steps\n'
printf '%s\n' "${steps[@]}"
exit $failed
