// pgxpool.go: pgxpool of pgx v4, with its default settings but for the size. Its threads are goroutines, on as many threads as there
// are cores. Arguments, lines and phases are those of harness.h, which see; the server is found by the same environment.
//
// pgx is told to send simple queries, as all others do; else it would prepare them.
package main

import (
	"bufio"
	"context"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v4/pgxpool"
)

const (
	warmUp = iota
	measured
	over
)

const (
	buckets  = 1920
	accounts = 100000
)

type worker struct {
	ops     uint64
	longest uint64
	random  uint64
	waits   [buckets]uint32
}

var (
	phase int32
	pool  *pgxpool.Pool
	work  string
	timed bool
	none  = context.Background()
)

func giveUp(err error) {
	fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", " "))
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		giveUp(err)
	}
}

func acquire() *pgxpool.Conn {
	conn, err := pool.Acquire(none)
	must(err)
	return conn
}

func (w *worker) noteWait(wait uint64) {
	if atomic.LoadInt32(&phase) == warmUp {
		return
	}
	bucket := wait
	if wait >= 32 {
		shift := 58 - bits.LeadingZeros64(wait)
		bucket = uint64(shift*32) + wait>>shift
	}
	w.waits[bucket]++
	if wait > w.longest {
		w.longest = wait
	}
}

func (w *worker) doWork(conn *pgxpool.Conn) {
	var answer int

	sql := "SELECT 1"
	switch work {
	case "nap":
		time.Sleep(time.Millisecond)
		return
	case "account":
		w.random = w.random*6364136223846793005 + 1442695040888963407
		sql = "SELECT abalance FROM pgbench_accounts WHERE aid = " + strconv.FormatUint((w.random>>33)%accounts+1, 10)
	}
	must(conn.QueryRow(none, sql).Scan(&answer))
}

func (w *worker) takeAndGive() {
	var n uint64

	withTime := timed || work != "none"
	seen := int32(warmUp)
	for now := atomic.LoadInt32(&phase); now != over; now = atomic.LoadInt32(&phase) {
		if now != seen {
			seen, n = now, 0
		}
		if withTime {
			before := time.Now()
			conn := acquire()
			w.noteWait(uint64(time.Since(before)))
			if work != "none" && atomic.LoadInt32(&phase) != over {
				w.doWork(conn)
			}
			conn.Release()
		} else {
			acquire().Release()
		}
		n++
	}
	if seen == measured {
		w.ops = n
	}
}

func bucketStart(bucket int) uint64 {
	if bucket < 32 {
		return uint64(bucket)
	}
	return uint64(32+bucket%32) << (bucket/32 - 1)
}

func percentile(waits *[buckets]uint64, n uint64, share float64) uint64 {
	var below uint64

	for i := range waits {
		below += waits[i]
		if below > uint64(float64(n)*share) {
			return bucketStart(i)
		}
	}
	return 0
}

func report(workers []worker, wall, cpu int64) {
	var ops, fastest, longest, samples uint64
	var waits [buckets]uint64

	slowest := workers[0].ops
	for i := range workers {
		w := &workers[i]
		ops += w.ops
		if w.ops < slowest {
			slowest = w.ops
		}
		if w.ops > fastest {
			fastest = w.ops
		}
		if w.longest > longest {
			longest = w.longest
		}
		for bucket, n := range w.waits {
			waits[bucket] += uint64(n)
			samples += uint64(n)
		}
	}
	fmt.Printf("ops=%d wall=%d cpu=%d slowest=%d fastest=%d", ops, wall, cpu, slowest, fastest)
	if samples > 0 {
		fmt.Printf(" p50=%d p99=%d p999=%d max=%d", percentile(&waits, samples, 0.5), percentile(&waits, samples, 0.99),
			percentile(&waits, samples, 0.999), longest)
	}
	fmt.Println()
}

func cpuTime() int64 {
	var usage syscall.Rusage

	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func seconds(text string) time.Duration {
	number, err := strconv.ParseFloat(text, 64)
	must(err)
	return time.Duration(number * 1e9)
}

func run(threads int, warm, measure time.Duration) {
	var done sync.WaitGroup

	workers := make([]worker, threads)
	atomic.StoreInt32(&phase, warmUp)
	begin := make(chan struct{})
	for i := range workers {
		workers[i].random = uint64(i + 1)
		done.Add(1)
		go func(w *worker) {
			<-begin
			w.takeAndGive()
			done.Done()
		}(&workers[i])
	}
	close(begin)
	time.Sleep(warm)
	start, cpu := time.Now(), cpuTime()
	atomic.StoreInt32(&phase, measured)
	time.Sleep(measure)
	atomic.StoreInt32(&phase, over)
	cpu = cpuTime() - cpu
	wall := time.Since(start)
	done.Wait()
	report(workers, int64(wall), cpu)
}

// Connections are opened on demand: here is a demand for all of them.
func open(size int) {
	config, err := pgxpool.ParseConfig("")
	must(err)
	config.MaxConns = int32(size)
	config.ConnConfig.PreferSimpleProtocol = true
	pool, err = pgxpool.ConnectConfig(none, config)
	must(err)
	conns := make([]*pgxpool.Conn, size)
	for i := range conns {
		conns[i] = acquire()
	}
	for _, conn := range conns {
		conn.Release()
	}
}

func main() {
	threads, err := strconv.Atoi(os.Args[1])
	must(err)
	size, err := strconv.Atoi(os.Args[2])
	must(err)
	work, timed = os.Args[3], os.Args[4] == "1"
	open(size)
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		times := strings.Fields(lines.Text())
		run(threads, seconds(times[0]), seconds(times[1]))
	}
	pool.Close()
}
