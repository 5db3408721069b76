#!/bin/bash
#
# demo.sh: what pgpool_monitor is for, seen in half a minute. `make demo` runs it in a stage (tests/lib/stage.sh), which gives it
# an unprivileged user and a private copy of the tree, and removes all of it afterwards.
#
#   1. A throwaway server with max_connections = 30, reached only by a socket in its own directory.
#   2. Mode share: orders, web and batch (service.c), of 32 threads and up to 32 connections each, for DEMO_SECONDS (15). Meanwhile
#      web's load rises, batch is killed, and a rule is changed.
#   3. Mode off: the same three programs, for as long as batch lived before.
#   4. What was measured: by the programs, by the server, and by a superuser who only looks on (witness.c).
#
# Ends with 0 if all that was promised was kept, else with 1; the lines that begin with "ok" and "NOT OK" say what it was.
# Whatever it starts is its own child and ends with it, on every way out.

set -euo pipefail

if [ -z "${STAGE_WORK-}" ]; then
  echo 'demo: runs in a stage only; use "make demo"' >&2
  exit 2
fi

seconds=${DEMO_SECONDS:-15}
if ! [[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] || [ "$seconds" -lt 4 ]; then
  echo 'demo: DEMO_SECONDS is a number of seconds, at least 4' >&2
  exit 2
fi

# The course of events, in milliseconds. In a short demonstration the server is quicker, so that as much happens in it.
rush_at=$((seconds * 200)) kill_at=$((seconds * 400)) rule_at=$((seconds * 700)) end_at=$((seconds * 1000))
interval=$((seconds < 15 ? end_at / 15 : 1000))
lease=$((3 * interval)) # the least that the server takes
programs=(orders web batch)
web_budget=6

work=
declare -A pid=()
failed=0

# --- pieces ------------------------------------------------------------------------------------------------------------------

build()
{
  # shellcheck source=tests/lib/build.sh
  source tests/lib/build.sh
  # In a test's stage all of this is there already.
  if [[ $PG_CONFIG != "$STAGE_WORK"/* ]]; then
    build_server
    step "extension built" build_extension
    step "client library built" build_client
  fi
  bin=$STAGE_OUT/examples
  step "examples built" make -C client/examples -j2 CC="$CC" CFLAGS="-O2 -g ${warnings[*]}" BUILD="$bin" \
    PKG_CONFIG_PATH="$STAGE_PREFIX/lib/pkgconfig:$("$PG_CONFIG" --libdir)/pkgconfig"
  PATH=$("$PG_CONFIG" --bindir):$PATH
}

# As the superuser, one statement for each argument.
ask()
{
  local statements=() statement
  for statement in "$@"; do statements+=(-c "$statement"); done
  psql -XAtq -v ON_ERROR_STOP=1 -F ' ' -U postgres "${statements[@]}"
}

start_server()
{
  export PGHOST=$work PGPORT=5432 PGDATABASE=shop PGUSER=app
  initdb -D "$work/data" -U postgres --auth=trust --no-sync --encoding=UTF8 --no-locale > "$work/initdb.log"
  cat >> "$work/data/postgresql.conf" << CONF
listen_addresses = ''
unix_socket_directories = '$work'
max_connections = 30
shared_preload_libraries = 'pgpool_monitor'
pgpool_monitor.mode = share
pgpool_monitor.identify = options
pgpool_monitor.report_interval = ${interval}ms
pgpool_monitor.lease = ${lease}ms
pgpool_monitor.retry_interval = ${interval}ms
pgpool_monitor.round_interval = $((interval / 4 > 100 ? interval / 4 : 100))ms
log_line_prefix = '%m [%p] %e '
fsync = off
CONF
  pg_ctl -s -w -D "$work/data" -l "$work/server.log" start || { cat "$work/server.log"; exit 1; }
  PGDATABASE=postgres ask 'CREATE DATABASE shop' 'CREATE ROLE app LOGIN' 'CREATE ROLE dba LOGIN IN ROLE pg_monitor'
  ask 'CREATE EXTENSION pgpool_monitor' \
    'CREATE TABLE account AS SELECT id, 1000 AS balance FROM generate_series(0, 999) AS id' \
    'ALTER TABLE account ADD PRIMARY KEY (id)' \
    'CREATE TABLE purchase (account int, amount int)' 'CREATE INDEX ON purchase (account)' \
    'GRANT ALL ON account, purchase TO app' 'VACUUM ANALYZE'
}

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

# Milliseconds as seconds.
in_seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }
tenths() { printf '%.1f' "$(in_seconds "$1")"; }

# In the background, because bash hears a signal only when what runs in the foreground has ended.
sleep_until()
{
  local left=$(($1 - $(now_ms)))
  [ "$left" -gt 0 ] || return 0
  sleep "$(in_seconds "$left")" 3>&- &
  pid[sleep]=$!
  wait "${pid[sleep]}"
  unset 'pid[sleep]'
}

# Fd 3 is the monitor's ear: what is said there is shown above its table.
start_watching()
{
  PGUSER=postgres "$bin/witness" app "${programs[@]}" > "$work/$1.witness" &
  pid[witness]=$!
  exec 3> >(exec "$bin/monitor" -e user=dba)
  pid[monitor]=$!
  # before anybody comes: with mode off there will be no connection left
  until_true test -s "$work/$1.witness"
  until_true is_connected monitor
}

# shellcheck disable=SC2317 # called by until_true
is_connected()
{
  [ "$(ask "SELECT count(*) FROM pg_stat_activity WHERE application_name = '$1'")" != 0 ]
}

# Or some seconds have passed: what is missing then shows in the end.
until_true()
{
  local patience=200
  until "$@" || [ $((patience--)) = 0 ]; do sleep 0.05; done
}

say() { echo ">> $(tenths $(($(now_ms) - began))) s  $*" >&3; }

stop_watching()
{
  exec 3>&-
  wait "${pid[monitor]}" || promise 0 'the monitor came to its end'
  stop witness
  unset 'pid[monitor]'
}

# Which run, when web's rush begins.
start_programs()
{
  local program
  began=$(now_ms)
  for program in "${programs[@]}"; do
    "$bin/service" "$program" "$(in_seconds "$rush_at")" > "$work/$1.$program" 3>&- &
    pid[$program]=$!
  done
}

# Figures of all programs, now.
take_figures()
{
  local program
  for program in "${programs[@]}"; do kill -USR1 "${pid[$program]}"; done
  for program in "${programs[@]}"; do until_true grep -q seconds= "$work/$1.$program"; done
}

# Ends it in order, and waits for that.
stop()
{
  local status=0
  kill "${pid[$1]}"
  wait "${pid[$1]}" || status=$?
  # the witness has no order to end in
  [ "$status" = 0 ] || [ "$1" = witness ] || promise 0 "$1 ended in order (status $status)"
  unset "pid[$1]"
}

refusals() { grep -c ' 53300 FATAL:' "$work/server.log" || true; }

# shellcheck disable=SC2317 # called by the trap
clean_up()
{
  local one
  trap - EXIT
  disown -a # no word from bash about those that we kill
  for one in "${pid[@]}"; do kill -KILL "$one" 2>/dev/null || true; done
  exec 3>&-
  if [ -e "$work/data/postmaster.pid" ]; then pg_ctl -s -D "$work/data" -m immediate stop || true; fi
  rm -rf "$work"
}

# --- the two runs --------------------------------------------------------------------------------------------------------------

run_share()
{
  echo
  echo "MODE SHARE: $(printf '%s, ' "${programs[@]}")each with 32 threads and up to 32 connections, 96 in all; the server has 30."
  echo
  start_watching share
  start_programs share
  say "they start; each line of the table is a pool, each letter a connection"
  sleep_until $((began + rush_at))
  say "web's users come in crowds: web wants more, and gets it from the others"
  sleep_until $((began + kill_at))
  take_figures share
  refused_share=$(refusals)

  killed=$(now_ms)
  disown "${pid[batch]}" # or bash would report it
  kill -KILL "${pid[batch]}"
  unset 'pid[batch]'
  say "kill -9 batch: its share goes to the others when its lease is over, $(tenths "$lease") s from its last report"
  sleep_until $((began + rule_at))
  ruled=$(now_ms)
  ask "ALTER SYSTEM SET pgpool_monitor.rules = 'web=$web_budget'" 'SELECT pg_reload_conf()' > /dev/null
  say "ALTER SYSTEM SET pgpool_monitor.rules = 'web=$web_budget', and a reload: web gives back, orders gets it"
  sleep_until $((began + end_at))
  ended=$(now_ms)
  stop orders
  stop web
  say "the end; web and orders close their pools in order"
  stop_watching
  refused_all=$(refusals)
  server_count=$(ask 'SELECT rounds, held_peak, excess_peak, headroom FROM pgpool_monitor.info')
  began_share=$began
}

run_off()
{
  local program
  ask "ALTER SYSTEM SET pgpool_monitor.mode = 'off'" 'ALTER SYSTEM RESET pgpool_monitor.rules' 'SELECT pg_reload_conf()' > /dev/null
  echo
  echo "MODE OFF, one reload later: the same programs, the same load, for $(tenths "$kill_at") s. Everybody takes what he can."
  echo
  start_watching off
  start_programs off
  say "they start"
  sleep_until $((began + rush_at))
  say "web's users come in crowds; but there is nothing left, and nobody gives any back"
  sleep_until $((began + kill_at))
  take_figures off
  refused_off=$(($(refusals) - refused_all))
  ended_off=$(now_ms)
  for program in "${programs[@]}"; do stop "$program"; done
  say "the end"
  stop_watching
  began_off=$began
}

# --- what was measured -----------------------------------------------------------------------------------------------------------

# The witness's worst of run $1 between $2 and $3: looks, clients, pooled, most above capacity, strangers, of these refused.
witnessed()
{
  awk -v from="$2" -v to="$3" '
    {
      split("", value)
      for (i = 2; i <= NF; i++) { split($i, part, "="); value[part[1]] = part[2] }
      at = $1 * 1000
      if (at < from) { strangers = value["strangers"]; refused = value["refused"] }
      if (at < from || at > to) next
      looks++
      if (value["clients"] > clients) clients = value["clients"]
      if (value["pooled"] > pooled) pooled = value["pooled"]
      if (looks == 1 || value["pooled"] - value["capacity"] > excess) excess = value["pooled"] - value["capacity"]
      last_strangers = value["strangers"]; last_refused = value["refused"]
    }
    END { print looks + 0, clients + 0, pooled + 0, excess + 0, last_strangers - strangers, last_refused - refused }
  ' "$work/$1.witness"
}

# After the kill: what batch had held, how long until it held nothing, what the others held more at most, and when they had that.
# After the rule: what web had held, what it holds in the end, how long that took, and what orders held more in the end.
aftermath()
{
  awk -v killed="$killed" -v ruled="$ruled" -v ended="$ended" '
    {
      split("", value)
      for (i = 2; i <= NF; i++) { split($i, part, "="); value[part[1]] = part[2] }
      at = $1 * 1000
      others = value["orders"] + value["web"]
      if (at < killed) { batch = value["batch"]; before = others }
      else if (at < ruled)
      {
        if (value["batch"] > 0) gone = at - killed
        if (others > most) { most = others; taken = at - killed }
      }
      if (at < ruled) { web = value["web"]; orders = value["orders"] }
      else if (at < ended)
      {
        if (value["web"] > '$web_budget') late = at - ruled
        last_web = value["web"]; last_orders = value["orders"]
      }
    }
    END {
      printf "%d %.2f %d %.2f %d %d %.2f %d\n", batch, gone / 1000, most - before, taken / 1000,
        web, last_web, late / 1000, last_orders - orders
    }
  ' "$work/share.witness"
}

# figure LINE RUN PROGRAM KEY: from the line "1" (of the moment when batch was killed) or "$" (the last) of a program's figures.
figure() { sed -n "$1s/.*\<$4=\([0-9.]*\).*/\1/p" "$work/$2.$3"; }

# sum LINE RUN KEY: the same of all programs.
sum()
{
  local program value total=0
  for program in "${programs[@]}"; do
    value=$(figure "$1" "$2" "$program" "$3")
    total=$((total + ${value:-0}))
  done
  echo "$total"
}

# The codes of failed acquires in the first lines.
codes() { head -qn 1 "$work"/share.* "$work"/off.* | grep -o 'PQPOOL_[A-Z_]*' | sort -u; }

# promise CONDITION TEXT: CONDITION is arithmetic.
promise()
{
  if (($1)); then
    echo "ok      $2"
  else
    echo "NOT OK  $2"
    failed=1
  fi
}

# Waits of those who were served.
waits()
{
  if [ "$(figure 1 "$1" "$2" acquires)" = 0 ]; then
    echo 'nobody was served'
  else
    printf '%.0f / %.0f / %.0f' "$(figure 1 "$1" "$2" wait_p50)" "$(figure 1 "$1" "$2" wait_p99)" "$(figure 1 "$1" "$2" wait_max)"
  fi
}

row() { printf '  %-46s %22s %22s\n' "$@"; }

compare()
{
  local clients pooled strangers refused
  local off_clients off_pooled off_strangers off_refused
  local program run code line

  read -r _ clients pooled _ strangers refused < <(witnessed share "$began_share" "$killed")
  read -r _ off_clients off_pooled _ off_strangers off_refused < <(witnessed off "$began_off" "$ended_off")
  echo
  echo "THE SAME LOAD, SIDE BY SIDE: the first $(tenths "$kill_at") s of each, until batch was killed"
  echo
  row '' 'mode share' 'mode off'
  row 'connections at the worst moment, of 30' "$clients" "$off_clients"
  row '  of these held by the three programs' "$pooled" "$off_pooled"
  row '"too many clients already", and the like (53300)' "$refused_share" "$refused_off"
  row 'users without a pool who were refused' "$refused of $strangers" "$off_refused of $off_strangers"
  row 'queries served' "$(sum 1 share queries)" "$(sum 1 off queries)"
  row 'acquires that failed' "$(sum 1 share errors)" "$(sum 1 off errors)"
  for code in $(codes); do row "  $code" "$(sum 1 share "$code")" "$(sum 1 off "$code")"; done
  for program in "${programs[@]}"; do
    line=("  $program: users served")
    for run in share off; do line+=("$(figure 1 "$run" "$program" acquires)"); done
    row "${line[@]}"
    line=("  $program: wait p50 / p99 / longest, ms")
    for run in share off; do
      line+=("$(waits "$run" "$program")")
    done
    row "${line[@]}"
  done
  echo
  echo '  Share divides by demand, and leaves a few connections to users without a pool. Off is first come, first served.'
}

judge()
{
  local looks clients pooled excess strangers refused
  local rounds held_peak excess_peak headroom
  local batch gone more taken web last_web late orders_more
  local errors lost

  read -r looks clients pooled excess strangers refused < <(witnessed share "$began_share" "$ended")
  read -r rounds held_peak excess_peak headroom <<< "$server_count"
  read -r batch gone more taken web last_web late orders_more < <(aftermath)
  errors=$(($(sum '$' share errors))) lost=$(($(sum '$' share failed)))

  echo
  echo "WHAT WAS PROVEN in $seconds s of mode share"
  echo
  promise "$(sum '$' share queries) > 0 && $lost == 0 && $errors == 0" \
    "$(sum '$' share queries) queries served, $lost failed; $errors acquires failed"
  promise "$refused_all == 0" "$refused_all times \"too many clients already\", by the server's log"
  promise "$strangers > 0 && $refused == 0" "$refused of $strangers users without a pool refused"
  promise "$excess_peak <= $headroom && $held_peak > 0" \
    "at the worst moment pools held $held_peak connections, $excess_peak above capacity (headroom: $headroom): server, $rounds rounds"
  promise "$looks > 0 && $excess <= $headroom" \
    "at the worst moment pools held $pooled connections, $excess above capacity, all clients $clients of 30: superuser, $looks looks"
  promise "$batch > 0 && 10 * $more >= 8 * $batch" \
    "batch was killed and its $batch connections were gone after $gone s; the others held $more more after $taken s"
  promise "$web > $web_budget && $last_web > 0 && $last_web <= $web_budget" \
    "web=$web_budget was followed: web went from $web connections to $last_web in $late s, and orders held $orders_more more"
}

look_for_yourself()
{
  cat << TEXT

LOOK FOR YOURSELF: make demo DEMO_SECONDS=600, and meanwhile, with the directory that it prints at its start:
  psql -h DIRECTORY -U postgres shop -c 'SELECT * FROM pgpool_monitor.pools'
The other views are limits, instances, sessions and info.
TEXT
}

work=$(mktemp -d "$STAGE_WORK/tmp/demo.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
build
start_server
echo "server: psql -h $PGHOST -U postgres shop    while this runs"
run_share
run_off
compare
judge
look_for_yourself
exit "$failed"
