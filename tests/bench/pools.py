# pools.py: the pools of Python's drivers, with their default settings but for the size: EXTRA is psycopg2 (ThreadedConnectionPool)
# or psycopg_pool (ConnectionPool). Arguments, lines and phases are those of harness.h, which see; the server is found by the same
# environment.
#
# Connections commit by themselves and nothing is prepared, so that a query is one message, as with all others. psycopg2's pool never
# waits: when all are in use the caller is told, and here naps a millisecond before he tries again.

import resource
import sys
import threading
import time

WARM_UP, MEASURED, OVER = 0, 1, 2
ACCOUNTS = 100000

phase = WARM_UP


class Psycopg2:
    def __init__(self, size):
        import psycopg2
        import psycopg2.pool

        self.full = psycopg2.pool.PoolError
        self.pool = psycopg2.pool.ThreadedConnectionPool(size, size, "")
        conns = [self.pool.getconn() for _ in range(size)]
        for conn in conns:
            conn.autocommit = True
            self.pool.putconn(conn)
        self.give = self.pool.putconn
        self.close = self.pool.closeall

    def take(self):
        while True:
            try:
                return self.pool.getconn()
            except self.full:
                time.sleep(0.001)

    def query(self, conn, sql):
        with conn.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()


class PsycopgPool:
    def __init__(self, size):
        import psycopg_pool

        self.pool = psycopg_pool.ConnectionPool("", min_size=size, max_size=size,
                                                kwargs={"autocommit": True, "prepare_threshold": None})
        self.pool.wait()
        self.take = self.pool.getconn
        self.give = self.pool.putconn
        self.close = self.pool.close

    def query(self, conn, sql):
        return conn.execute(sql).fetchone()


class Worker(threading.Thread):
    def __init__(self, number, barrier, pool, work, timed):
        super().__init__(daemon=True)
        self.number, self.barrier, self.pool, self.work, self.timed = number, barrier, pool, work, timed
        self.ops = 0
        self.waits = []
        self.random = number + 1
        self.failed = None

    def run(self):
        try:
            self.barrier.wait()
            if self.timed or self.work != "none":
                self.take_and_give_timed()
            else:
                self.take_and_give()
        except Exception as failure:
            self.failed = failure

    def take_and_give(self):
        take, give = self.pool.take, self.pool.give
        seen, ops = WARM_UP, 0
        while phase != OVER:
            if phase != seen:
                seen, ops = phase, 0
            give(take())
            ops += 1
        self.ops = ops if seen == MEASURED else 0

    def take_and_give_timed(self):
        take, give, now, waits = self.pool.take, self.pool.give, time.perf_counter_ns, self.waits
        seen, ops = WARM_UP, 0
        while phase != OVER:
            if phase != seen:
                seen, ops = phase, 0
            before = now()
            conn = take()
            wait = now() - before
            if phase != WARM_UP:
                waits.append(wait)
            if self.work != "none" and phase != OVER:
                self.do_work(conn)
            give(conn)
            ops += 1
        self.ops = ops if seen == MEASURED else 0

    def do_work(self, conn):
        if self.work == "nap":
            time.sleep(0.001)
        elif self.work == "one":
            self.pool.query(conn, "SELECT 1")
        else:
            self.random = (self.random * 6364136223846793005 + 1442695040888963407) % 2**64
            self.pool.query(conn, "SELECT abalance FROM pgbench_accounts WHERE aid = %d" % ((self.random >> 33) % ACCOUNTS + 1))


def cpu_ns():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def report(workers, wall, cpu):
    ops = [worker.ops for worker in workers]
    waits = sorted(wait for worker in workers for wait in worker.waits)
    line = "ops=%d wall=%d cpu=%d slowest=%d fastest=%d" % (sum(ops), wall, cpu, min(ops), max(ops))
    if waits:
        line += " p50=%d p99=%d p999=%d max=%d" % (*(waits[int(len(waits) * share)] for share in (0.5, 0.99, 0.999)), waits[-1])
    print(line, flush=True)


def run(pool, threads, work, timed, warm_up, seconds):
    global phase

    phase = WARM_UP
    barrier = threading.Barrier(threads + 1)
    workers = [Worker(number, barrier, pool, work, timed) for number in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    time.sleep(warm_up)
    wall, cpu = time.perf_counter_ns(), cpu_ns()
    phase = MEASURED
    time.sleep(seconds)
    phase = OVER
    cpu, wall = cpu_ns() - cpu, time.perf_counter_ns() - wall
    for worker in workers:
        worker.join()
        if worker.failed:
            raise worker.failed
    report(workers, wall, cpu)


def main(threads, size, work, timed, extra):
    threading.stack_size(256 * 1024)
    pool = {"psycopg2": Psycopg2, "psycopg_pool": PsycopgPool}[extra](int(size))
    print("ready", flush=True)
    for line in sys.stdin:
        warm_up, seconds = map(float, line.split())
        run(pool, int(threads), work, timed == "1", warm_up, seconds)
    pool.close()


try:
    main(*sys.argv[1:])
except Exception as failure:
    print("error", " ".join(str(failure).split()) or repr(failure), flush=True)
    sys.exit(1)
