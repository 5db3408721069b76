#!/bin/bash
#
# run.sh: check the protocol of client/src/waitq.h in two models, and that each model finds what is broken on purpose.
# Called by `make check-model`, in a stage (stage.sh). What is proven, and how to read a counterexample: README.md here.
#
#   1. waitq.cpp   the real waitq.c under Relacy: scenarios of two or three threads
#   2. mutations   of memory orders (-D), of the source (sed on a copy), of what pool.hpp mirrors (-m): each must be found,
#                  and by what a caller would notice, not by the invariants
#   3. pool.pml    under Spin: safety, liveness, and mutations
#
# Ends non-zero if a check fails, or a mutation is not found.

# shellcheck disable=SC2317 # functions are called by name, through background

set -euo pipefail

here=tests/model
source_dir=client/src
work=$STAGE_WORK/model
log=$STAGE_WORK/log
mkdir -p "$work" "$log"
failed=0

# Relacy's headers use what newer standards have dropped; their warnings are not ours.
compile=(g++ -U_GNU_SOURCE -D_GNU_SOURCE= -std=c++14 -w)

fail()
{
  echo "FAILED: $*"
  failed=1
}

# --- 1. the source ------------------------------------------------------------------------------------------------------------

"${compile[@]}" -O2 -I"$source_dir" -o "$work/waitq" "$here/waitq.cpp"

echo "== waitq.c: all executions of these threads, but where it says otherwise"
timeout 600 "$work/waitq" || {
  fail "waitq.c; the first counterexample:"
  timeout 600 "$work/waitq" -s -t | tail -n 200 || true
}

# --- 2. mutations -------------------------------------------------------------------------------------------------------------

# must_find NAME COMMAND...: COMMAND ends with 1, having found something, in a scenario that it names.
must_find()
{
  local name=$1 status=0 found
  shift
  timeout 120 "$@" > "$log/model-$name.log" 2>&1 || status=$?
  found=$(sed -n 's/^\([^ ]*\) .*: *\([0-9]* executions\).*: FAILED$/found in scenario \1, \2/p' "$log/model-$name.log")
  if [ "$status" = 1 ] && [ -n "$found" ]; then
    printf '%-26s %s\n' "$name" "$found"
  else
    printf '%-26s %s\n' "$name" "NOT FOUND (status $status)"
    return 1
  fi
}

# built NAME FLAG...: a mutant of its own program, which must be found.
built()
{
  local name=$1
  shift
  "${compile[@]}" -O0 "$@" -o "$work/waitq-$name" "$here/waitq.cpp" && must_find "$name" "$work/waitq-$name" -b -s
}

# edited NAME SCRIPT: waitq.c, edited by sed. An edit that changes nothing has lost its target.
edited()
{
  local name=$1 copy=$work/$1
  mkdir "$copy"
  cp "$source_dir"/waitq.[ch] "$copy"
  sed -i "$2" "$copy/waitq.c"
  if cmp -s "$source_dir/waitq.c" "$copy/waitq.c"; then
    printf '%-26s %s\n' "$name" "the edit finds nothing to change"
    return 1
  fi
  built "$name" -I"$copy"
}

# Two at a time.
jobs=()
background()
{
  "$@" &
  jobs+=($!)
  if [ ${#jobs[@]} -ge 2 ]; then
    wait "${jobs[0]}" || failed=1
    jobs=("${jobs[@]:1}")
  fi
}

echo "== mutations of waitq.c and of its use: each must be found"
for order in TAKE GIVE CLAIM LIST TELL TOLD; do
  background built "order-${order,,}" -I"$source_dir" "-DPQP_ORDER_$order=memory_order_relaxed"
done

# A loan that begins in the slow path is in no list, and nobody is called for it.
background edited lend-without-call 's/mine | PQP_ITEM_CALL/mine/'
# Claiming looks, and marks nothing.
background edited claim-without-or 's/PQP_OR(&item->word, PQP_ITEM_CALL, PQP_ORDER_CLAIM)/PQP_LOAD(\&item->word, PQP_ORDER_CLAIM)/'
# Popped, and still in the queue: handed a second item, perhaps after he has gone.
background edited pop-stays 's/(void) pqp_waitq_remove(queue, waiter);/;/'
# Whoever is over his deadline believes that he was not popped.
background edited remove-always-true '/if (!waiter->queued)/{n;s/false/true/}'
# The gate is never set, neither bit.
background edited gate-never-set '/^set_gate/,/^}/s/if (next != gate)/if (0)/'
# Woken means told.
background edited park-once 's/while (PQP_LOAD(&waiter->told, PQP_ORDER_TOLD) == 0)/for (int once = 0; once < 1; once++)/'
# Woken before he is told.
background edited wake-before-telling '/^pqp_waitq_tell/,/^}/{/PQP_UNPARK/d;s/^\tPQP_STORE.*/\tPQP_UNPARK(\&waiter->told);\n&/}'
# Passed on to another thread, which does not know that it is called for.
background edited pass-without-call 's/next | (next ? word & PQP_ITEM_CALL : 0)/next/'
# A call that comes at that moment makes giving back fail.
background edited yield-once 's/while (holder != 0 && pqp_item_holder(word) == holder)/if (holder != 0)/'
for job in "${jobs[@]}"; do wait "$job" || failed=1; done

for mutation in $("$work/waitq" -l); do
  must_find "$mutation" "$work/waitq" -b -s -m "$mutation" || failed=1
done

# --- 3. Spin ------------------------------------------------------------------------------------------------------------------

# spin_run NAME "MACROS" "FLAGS OF CC" "FLAGS OF PAN": what the verifier says, in $log.
spin_run()
{
  local name=$1 out=$log/spin-$1.log
  local -a macros cc_flags pan_flags
  read -r -a macros <<< "$2"
  read -r -a cc_flags <<< "$3"
  read -r -a pan_flags <<< "$4"
  mkdir "$work/spin-$name"
  cp "$here/pool.pml" "$work/spin-$name"
  (
    cd "$work/spin-$name"
    spin -a "${macros[@]}" pool.pml
    gcc -w -DCOLLAPSE -DMEMLIM=2000 "${cc_flags[@]}" -o pan pan.c
    timeout 120 ./pan -m1000000 "${pan_flags[@]}"
  ) > "$out" 2>&1 || { cat "$out"; return 1; }
}

# proven NAME MACROS...: everything is visited, and nothing found.
proven()
{
  local name=$1 cc='-O2 -DSAFETY' pan=-n out=$log/spin-$1.log
  shift
  if [[ " $* " == *" -DLIVENESS "* ]]; then cc='-O2 -DNFAIR=3' pan='-n -a -f'; fi
  spin_run "$name" "$*" "$cc" "$pan" || { fail "$name: not run"; return; }
  if grep -q 'errors: 0' "$out" && ! grep -q 'Search not completed\|max search depth too small' "$out"; then
    printf '%-26s %-46s %s states, %s transitions: ok\n' "$name" "$*" \
      "$(sed -n 's/^ *\([0-9e.+]*\) states, stored.*/\1/p' "$out")" "$(sed -n 's/^ *\([0-9e.+]*\) transitions.*/\1/p' "$out")"
  else
    fail "$name ($*); the counterexample:"
    (cd "$work/spin-$name" && if [ -e pool.pml.trail ]; then spin -t -p -g -l "$@" pool.pml | tail -n 200; else cat "$out"; fi) || true
  fi
}

# refuted MACROS...: by behaviour and liveness alone.
refuted()
{
  local out=$log/spin-$1.log what
  spin_run "$1" "-D$1 -DBEHAVIOUR -DLATE=2 -DREPORTS=1 -DLIVENESS" -DNFAIR=3 '-n -a -f' || { fail "$1: not run"; return; }
  what=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' "$out")
  if grep -q 'errors: 1' "$out"; then printf '%-26s found: %s\n' "$1" "$what"; else fail "$1: NOT FOUND"; fi
}

echo "== pool.pml: all states; bits in LATE and REPORTS are callers"
proven once -DONCE -DLATE=2 -DREPORTS=4
proven once-4-callers -DONCE -DCALLERS=4 -DITEMS=2 -DLATE=1
proven for-ever -DLATE=2 -DREPORTS=4
proven for-ever-2-items -DITEMS=2 -DLATE=6 -DREPORTS=1
proven served -DLIVENESS
proven served-others-give-up -DLIVENESS -DLATE=6 -DREPORTS=1
proven served-2-items -DLIVENESS -DITEMS=2 -DLATE=4

echo "== mutations of pool.pml: each must be found"
for mutation in NO_MARK NO_RESCAN NO_RECHECK LEND_NO_CALL POP_STAYS TELL_TWICE NO_GATE IGNORE_CALL; do
  refuted "$mutation"
done

if [ $failed = 0 ]; then echo "model: all proven, all mutations found"; else echo "model: FAILED"; fi
exit $failed
