#!/bin/bash
#
# bench.sh: how fast is the pool, beside others. `make bench` runs it in a stage (tests/lib/stage.sh); README.md says what is measured.
#
#   1. Builds the contenders whose packages are here; each becomes a program STAGE_OUT/bench/NAME, of the arguments and answers
#      that harness.h describes.
#   2. Starts a throwaway server and a PgBouncer. Both listen on the loopback, for JDBC knows no unix sockets, and all contenders
#      shall come the same way; who else is on the machine lacks the password.
#   3. Hands over to bench.pl, which measures and prints.
#
# Ends with 0 if everything that is here could be measured, whatever came out. Descriptor 3, if BENCH_OUT is set, takes the figures.

set -euo pipefail

if [ -z "${STAGE_WORK-}" ]; then
  echo 'bench: runs in a stage only; use "make bench"' >&2
  exit 2
fi

perl tests/bench/bench.pl check

# shellcheck source=tests/lib/build.sh
source tests/lib/build.sh

bin=$STAGE_OUT/bench
java_classes=/usr/share/java
go_sources=/usr/share/gocode
python=/usr/bin/python3

# --- the contenders ----------------------------------------------------------------------------------------------------------

# wrap NAME COMMAND...: a contender that is another program with something before or after its arguments.
wrap()
{
  local name=$1
  shift
  printf '#!/bin/sh\nexec %s\n' "$*" > "$bin/$name"
  chmod 755 "$bin/$name"
}

build_floors()
{
  local libpq name
  libpq=(-O2 -I"$("$PG_CONFIG" --includedir)" -L"$("$PG_CONFIG" --libdir)" -lpq "-Wl,-rpath,$("$PG_CONFIG" --libdir)")
  for name in direct cas lifo fifo; do
    compile bench "tests/bench/$name.c" "${libpq[@]}"
  done
  read -r -a flags <<< "$(PKG_CONFIG_PATH=$STAGE_PREFIX/lib/pkgconfig pkg-config --cflags --libs libpqpool)"
  compile bench tests/bench/pqpool.c "${flags[@]}" "${libpq[@]}" "-Wl,-rpath,$STAGE_PREFIX/lib"
  wrap pqpool-peek "$bin/pqpool" '"$@"' pool_peek_after=0
  # shellcheck disable=SC2016 # for the program's shell
  wrap pgbouncer env PGHOST=127.0.0.1 '"PGPORT=$BOUNCER_PORT" "BENCH_ALSO_PID=$BOUNCER_PID"' "$bin/direct" '"$@"'

  if pkg-config --exists apr-util-1; then
    read -r -a flags <<< "$(pkg-config --cflags apr-util-1)"
    compile bench tests/bench/apr.c "${flags[@]}" -laprutil-1 -lapr-1 "${libpq[@]}"
  fi
  if pkg-config --exists zdb; then
    read -r -a flags <<< "$(pkg-config --cflags --libs zdb)"
    compile bench tests/bench/libzdb.c "${flags[@]}" "${libpq[@]}"
  fi
}

build_others()
{
  local path=$java_classes/HikariCP.jar:$java_classes/postgresql.jar:$java_classes/slf4j-api.jar:$java_classes/slf4j-nop.jar
  local name
  if command -v javac && [ -e $java_classes/HikariCP.jar ] && [ -e $java_classes/postgresql.jar ]; then
    javac -Werror -d "$bin/classes" -cp "$path" tests/bench/Hikari.java
    wrap hikari java -cp "$bin/classes:$path" Hikari '"$@"'
  fi
  if command -v go && [ -d $go_sources/src/github.com/jackc/pgx/v4 ]; then
    GO111MODULE=off GOPATH=$go_sources GOCACHE=$STAGE_WORK/tmp/go GOFLAGS='' go build -o "$bin/pgxpool" tests/bench/pgxpool.go
  fi
  for name in psycopg2 psycopg_pool; do
    if $python -c "import $name"; then wrap $name $python "$PWD/tests/bench/pools.py" '"$@"' $name; fi
  done
}

# --- the servers ---------------------------------------------------------------------------------------------------------------

free_port()
{
  perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

start_server()
{
  work=$(mktemp -d "$STAGE_WORK/tmp/bench.XXXXXX")
  initdb -D "$work/data" -U postgres --auth=trust --no-sync --encoding=UTF8 --no-locale
  cat >> "$work/data/postgresql.conf" << CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$work'
max_connections = 1200
password_encryption = md5
shared_buffers = 128MB
fsync = off
autovacuum = off
CONF
  # The directory of the socket is ours alone; the port is not.
  printf 'local all all trust\nhost bench bench 127.0.0.1/32 md5\n' > "$work/data/pg_hba.conf"
  # Between asking for a free port and using it, another may have taken it.
  for _ in 1 2 3; do
    PGPORT=$(free_port)
    pg_ctl -s -w -D "$work/data" -l "$work/server.log" -o "-p $PGPORT" start 3>&- && break
  done
  PGPASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  psql -XAtq -v ON_ERROR_STOP=1 -h "$work" -p "$PGPORT" -U postgres postgres \
    -c "CREATE ROLE bench LOGIN PASSWORD '$PGPASSWORD'" -c 'CREATE DATABASE bench OWNER bench'
  export PGHOST=127.0.0.1 PGPORT PGDATABASE=bench PGUSER=bench PGPASSWORD
  pgbench -i -s 1 -q
}

start_bouncer()
{
  BOUNCER_PORT=$(free_port)
  cat > "$work/bouncer.ini" << CONF
[databases]
bench = host=$work port=$PGPORT
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $BOUNCER_PORT
unix_socket_dir =
auth_type = md5
auth_file = $work/users
pool_mode = transaction
default_pool_size = 20
max_client_conn = 2000
log_connections = 0
log_disconnections = 0
logfile = $work/bouncer.log
CONF
  printf '"bench" "%s"\n' "$PGPASSWORD" > "$work/users"
  pgbouncer -q "$work/bouncer.ini" > /dev/null 2>&1 3>&- &
  BOUNCER_PID=$!
  export BOUNCER_PORT BOUNCER_PID
  for _ in {1..100}; do
    if PGPORT=$BOUNCER_PORT psql -XAtqc 'SELECT 1' > /dev/null 2>&1; then return; fi
    sleep 0.1
  done
  cat "$work/bouncer.log"
  return 1
}

# shellcheck disable=SC2317 # called by the trap
clean_up()
{
  trap - EXIT
  [ -z "${BOUNCER_PID-}" ] || kill "$BOUNCER_PID" 2>/dev/null || true
  if [ -e "${work-}/data/postmaster.pid" ]; then pg_ctl -s -D "$work/data" -m immediate stop || true; fi
}

# --- what the machine is -------------------------------------------------------------------------------------------------------

fact() { printf '%s\t%s\n' "$1" "${2:-unknown}"; }

# Of the package, for what cannot say it itself.
package_version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo 'not installed'; }

facts()
{
  fact machine "$(nproc) cores, $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r) $(uname -m)"
  fact 'load before' "$(cut -d' ' -f1-3 /proc/loadavg)"
  fact libpqpool "$(PKG_CONFIG_PATH=$STAGE_PREFIX/lib/pkgconfig pkg-config --modversion libpqpool), $("$CC" --version | head -n 1), -O2"
  fact PostgreSQL "$(postgres --version | sed 's/.*) //;s/ .*//'), libpq $("$PG_CONFIG" --version | sed 's/PostgreSQL //;s/ .*//')"
  fact PgBouncer "$(pgbouncer --version | sed -n '1s/PgBouncer //p')"
  fact APR-util "$(pkg-config --modversion apr-util-1 2>/dev/null || echo 'not installed')"
  fact libzdb "$(pkg-config --modversion zdb 2>/dev/null || echo 'not installed')"
  fact HikariCP "$(package_version libhikaricp-java), JDBC $(package_version libpostgresql-jdbc-java), Java $(
    java -version 2>&1 | sed -n '1s/.*"\(.*\)".*/\1/p')"
  fact pgx "$(package_version golang-github-jackc-pgx-v4-dev), puddle $(package_version golang-github-jackc-puddle-dev), Go $(
    go version 2>/dev/null | sed 's/go version go//;s/ .*//')"
  fact psycopg_pool "$(package_version python3-psycopg-pool), psycopg $(package_version python3-psycopg), psycopg2 $(
    package_version python3-psycopg2), Python $($python --version 2>/dev/null | sed 's/Python //')"
}

build_server
step "client library built" build_client
step "contenders in C built" build_floors
step "contenders in other languages built" build_others
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
start_server > "$STAGE_WORK/log/server-start.log" 2>&1 || { cat "$STAGE_WORK/log/server-start.log" "$work/server.log"; exit 1; }
start_bouncer
facts > "$STAGE_WORK/facts"
# A thousand threads with a connection each.
ulimit -n "$(ulimit -Hn)"
perl tests/bench/bench.pl run "$bin" "$STAGE_WORK/facts"
