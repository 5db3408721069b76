/*-------------------------------------------------------------------------
 *
 * wrapper.cpp
 *	  pqpool.hpp: that objects own what they say they own, on every way out,
 *	  and that errors arrive whole.
 *
 * What the calls do is tested in C; here, that the wrapper makes the right one.
 * Compiled and run as C++11, and by wrapper_cxx20.cpp as C++20; compiled by
 * other compilers and standards in tests/t/010_header.pl.
 *
 * server: pgpool_monitor.report_interval = 100ms
 *
 *-------------------------------------------------------------------------
 */
#include <pqpool.hpp>

#include "tap.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

using pqpoolxx::connection;
using pqpoolxx::error;
using pqpoolxx::inbox;
using pqpoolxx::pool;
using pqpoolxx::scope;
using std::chrono::milliseconds;
using std::chrono::seconds;

#define is_code(got, expected, ...) \
	tap_is_str(pqpool_code_name(got), pqpool_code_name(expected), __FILE__, __LINE__, __VA_ARGS__)

/* The code that an expression throws; PQPOOL_OK: it throws nothing. */
template <typename Action>
static int
thrown(Action action)
{
	try
	{
		action();
	}
	catch (const error &err)
	{
		return err.code();
	}
	return PQPOOL_OK;
}

/* True as soon as the condition is; false when longer has passed than anything takes that works. */
template <typename Condition>
static bool
wait_for(Condition condition)
{
	auto until = std::chrono::steady_clock::now() + seconds(60);
	bool reached;

	while (!(reached = condition()) && std::chrono::steady_clock::now() < until)
		std::this_thread::sleep_for(milliseconds(2));
	return reached;
}

/* The first value of a query; "" if it is null, and what failed, if it did. */
static std::string
value(PGconn *conn, const std::string &sql)
{
	PGresult *result = PQexec(conn, sql.c_str());
	std::string text;

	if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
		text = std::string("failed: ") + PQerrorMessage(conn);
	else if (PQntuples(result) > 0)
		text = PQgetvalue(result, 0, 0);
	PQclear(result);
	return text;
}

static std::string
value(const connection &conn, const std::string &sql)
{
	return value(conn.get(), sql);
}

/* A session of the test's own, to look at the pools' with. */
class Observer
{
  public:
	Observer() : conn(PQconnectdb("application_name=observer"))
	{
		if (PQstatus(conn) != CONNECTION_OK)
		{
			printf("Bail out! no connection: %s", PQerrorMessage(conn));
			_exit(255);
		}
	}
	~Observer()
	{
		PQfinish(conn);
	}
	Observer(const Observer &) = delete;
	Observer &operator=(const Observer &) = delete;

	std::string
	ask(const std::string &sql) const
	{
		return value(conn, sql);
	}
	/* How many sessions a pool has. */
	std::string
	sessions(const std::string &name) const
	{
		return ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = '" + name + "'");
	}

  private:
	PGconn *conn;
};

/*---- what the compiler must see to ----*/

template <typename T, typename... Arguments>
constexpr bool
nothrow_made_of()
{
	return std::is_nothrow_constructible<T, Arguments...>::value;
}

static_assert(!std::is_copy_constructible<connection>::value, "a loan has one owner");
static_assert(!std::is_copy_assignable<connection>::value, "a loan has one owner");
static_assert(nothrow_made_of<connection, connection &&>(), "containers move loans");
static_assert(std::is_nothrow_move_assignable<connection>::value, "containers move loans");
static_assert(std::is_nothrow_destructible<connection>::value, "unwinding gives back");
static_assert(!std::is_copy_constructible<pool>::value, "a pool has one owner");
static_assert(nothrow_made_of<pool, pool &&>(), "containers move pools");
static_assert(std::is_nothrow_move_assignable<pool>::value, "containers move pools");
static_assert(!std::is_copy_constructible<scope>::value, "a scope stays where it is");
static_assert(!std::is_move_constructible<scope>::value, "a scope stays where it is");
static_assert(!std::is_copy_constructible<inbox>::value, "an inbox has one owner");
static_assert(nothrow_made_of<inbox, inbox &&>(), "containers move inboxes");
static_assert(std::is_nothrow_move_assignable<inbox>::value, "containers move inboxes");
static_assert(std::is_nothrow_copy_constructible<error>::value, "exceptions are copied");
static_assert(std::is_base_of<std::exception, error>::value, "caught as any other");
static_assert(!std::is_convertible<connection, bool>::value, "tested, not computed with");
static_assert(!std::is_convertible<std::chrono::microseconds, milliseconds>::value,
			  "a timeout does not lose its digits silently");

/*---- loans ----*/

static connection
passed_on(pool &from)
{
	connection conn = from.acquire();

	return conn;
}

static void
test_loans()
{
	pool p("pool_name=loans pool_max_size=3");
	std::string pid;

	ok(bool(p), "there is a pool");
	is_str(p.name(), "loans", "and it has its name");
	ok(p.id()[0] != '\0', "and an id");
	{
		connection conn = p.acquire();

		ok(bool(conn) && conn.get() != nullptr, "a loan");
		pid = value(conn, "SELECT pg_backend_pid()");
		is_int(p.stats().in_use, 1, "is counted");
	}
	is_int(p.stats().in_use, 0, "a loan is given back at the end of its block");
	{
		connection conn = passed_on(p);

		is_str(value(conn, "SELECT pg_backend_pid()").c_str(), pid.c_str(),
			   "a loan is returned by a function, and was kept");
		is_int(p.stats().in_use, 1, "and is still one loan");
		is_code(conn.release(), PQPOOL_OK, "release");
		ok(!conn && conn.get() == nullptr, "after which it is empty");
		is_int(p.stats().in_use, 0, "and not on loan");
		is_code(conn.release(), PQPOOL_BAD_ARGUMENT, "there is nothing to release again");
	}
	{
		connection conn = p.acquire(seconds(60));

		is_code(conn.discard(), PQPOOL_OK, "discard");
		ok(!conn, "after which it is empty");
		is_int((long long) p.stats().discarded, 1, "and the connection discarded");
		is_code(conn.discard(), PQPOOL_BAD_ARGUMENT, "there is nothing to discard again");
	}
	{
		connection conn = p.acquire();
		PGconn *loan = conn.detach();

		ok(!conn, "a loan is detached");
		is_int(p.stats().in_use, 1, "which does not give it back");
		conn = connection::take(loan);
	}
	is_int(p.stats().in_use, 0, "a loan that was taken over is given back");
	ok(!connection(), "a connection made of nothing is empty");
}

/* NOLINTBEGIN(bugprone-use-after-move): what is left behind is the question */
static void
test_moves()
{
	pool p("pool_name=moves pool_max_size=4");
	connection a = p.acquire();
	PGconn *first = a.get();
	connection b(std::move(a));

	ok(!a && b.get() == first, "a loan is moved into a new object");
	a = p.acquire();
	PGconn *second = a.get();
	is_int(p.stats().in_use, 2, "two loans");
	a = std::move(b);
	ok(a.get() == first && !b, "a loan is moved over another");
	is_int(p.stats().in_use, 1, "which has been given back");
	ok(first != second, "they were two");

	connection &alias = a;
	a = std::move(alias);
	ok(a.get() == first, "a loan that is moved to itself stays");
	is_int(p.stats().in_use, 1, "and is on loan");
	is_str(value(a, "SELECT 1").c_str(), "1", "and works");

	b = p.acquire();
	second = b.get();
	swap(a, b);
	ok(a.get() == second && b.get() == first, "two loans are swapped");
	a = connection();
	b = connection();
	is_int(p.stats().in_use, 0, "assigning an empty one gives back");

	std::vector<connection> many;
	for (int i = 0; i < 4; i++)
		many.insert(many.end(), p.acquire());
	is_int(p.stats().in_use, 4, "a vector of loans");
	many.erase(many.begin());
	is_int(p.stats().in_use, 3, "erasing one gives it back");
	many.clear();
	is_int(p.stats().in_use, 0, "clearing gives back the rest");
}
/* NOLINTEND(bugprone-use-after-move) */

static void
use_and_throw(pool &p)
{
	connection idle = p.acquire(), busy = p.acquire();

	value(busy, "BEGIN");
	value(busy, "SELECT pg_advisory_xact_lock(4711)");
	throw std::runtime_error("of the program's own");
}

static void
test_unwinding(const Observer &observer)
{
	pool p("pool_name=unwinding pool_max_size=2");
	bool caught = false;

	try
	{
		use_and_throw(p);
	}
	catch (const std::runtime_error &)
	{
		caught = true;
	}
	ok(caught, "an exception passes through two loans");
	is_int(p.stats().in_use, 0, "and both are given back");
	is_int((long long) p.stats().resets, 1, "one with its transaction rolled back");
	is_str(
		observer.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711")
			.c_str(),
		"0", "before the exception was caught");
}

/*---- errors ----*/

static void
test_errors()
{
	error err;

	ok(!err, "a new error says that there is none");
	is_code(err.code(), PQPOOL_OK, "PQPOOL_OK, that is");
	is_code(thrown([] { pool p("pool_nonsense=1"); }), PQPOOL_BAD_OPTION, "a bad option");
	ok(!pool::try_open("pool_nonsense=1", err), "the same without an exception");
	ok(err && strstr(err.what(), "pool_nonsense") != nullptr, "what() names it: %s", err.what());
	is_str(err.name(), "PQPOOL_BAD_OPTION", "and name() the code");

	pool p = pool::try_open(std::string("dbname=no_such_database pool_name=nowhere"), err);
	ok(bool(p) && !err,
	   "a pool opens without its server's consent, and writes that nothing is wrong");
	try
	{
		connection conn = p.acquire();
		ok(false, "a connection to no_such_database");
	}
	catch (const std::exception &caught)
	{
		const error *refused = dynamic_cast<const error *>(&caught);

		ok(refused != nullptr, "caught as std::exception");
		if (refused != nullptr)
			err = *refused; /* and kept */
	}
	is_code(err.code(), PQPOOL_REFUSED, "the code");
	is_str(err.sqlstate(), "3D000", "SQLSTATE");
	ok(strstr(err.cause(), "no_such_database") != nullptr, "the server's own words: %s",
	   err.cause());
	ok(strstr(err.what(), "nowhere") != nullptr ||
		   strstr(err.what(), "no_such_database") != nullptr,
	   "and the whole message: %s", err.what());

	error of_code(PQPOOL_PAUSED);
	is_str(of_code.what(), pqpool_strerror(PQPOOL_PAUSED), "an error of a code alone has its text");
	error of_nothing_said(pqpool_error{});
	is_str(of_nothing_said.what(), pqpool_strerror(PQPOOL_OK), "what() is never empty");
}

static void
test_timeouts()
{
	pool p("pool_name=timeouts pool_max_size=1 pool_acquire_timeout=20ms");
	error err;

	{
		connection only = p.acquire(milliseconds(milliseconds::rep(INT_MAX) + 1));

		ok(bool(only), "more milliseconds than an int holds are not too many");
		is_code(thrown([&] { (void) p.acquire(milliseconds(10)).get(); }), PQPOOL_TIMED_OUT,
				"a loan too many, after 10 ms");
		is_code(thrown([&] { (void) p.acquire(milliseconds(0)).get(); }), PQPOOL_TIMED_OUT,
				"at once");
		is_code(thrown([&] { (void) p.acquire().get(); }), PQPOOL_TIMED_OUT, "by the pool's own");
		ok(!p.try_acquire(milliseconds(10), err), "without an exception");
		is_code(err.code(), PQPOOL_TIMED_OUT, "the same code");
		ok(!p.try_acquire(err), "by the pool's own");
		is_code(err.code(), PQPOOL_TIMED_OUT, "the same code");
		p.pause();
		ok(!p.try_acquire(milliseconds(10), err), "while paused");
		is_code(err.code(), PQPOOL_PAUSED, "another code");
		p.resume();
	}
	/* In C, -1 is the pool's own timeout, by which this would connect. */
	pool fresh("pool_name=fresh");
	ok(!fresh.try_acquire(milliseconds(-1), err), "a deadline that has passed is not waited for");
	is_code(err.code(), PQPOOL_TIMED_OUT, "but missed");
}

static void
test_empty()
{
	pool none;
	connection nothing;
	error err;

	ok(!none && none.get() == nullptr, "a pool made of nothing is empty");
	is_str(none.name(), "", "without a name");
	ok(none.close() && none.close(milliseconds(0)), "may be closed");
	is_code(thrown([&] { (void) none.acquire().get(); }), PQPOOL_BAD_ARGUMENT, "lends nothing");
	ok(!none.try_acquire(err) && err.code() == PQPOOL_BAD_ARGUMENT, "quietly either");
	is_code(thrown([&] { none.resize(-1, 5); }), PQPOOL_BAD_ARGUMENT, "no resize");
	is_code(thrown([&] { none.pause(); }), PQPOOL_BAD_ARGUMENT, "no pause");
	is_code(thrown([&] { none.resume(); }), PQPOOL_BAD_ARGUMENT, "no resume");
	is_code(thrown([&] { (void) none.drain(); }), PQPOOL_BAD_ARGUMENT, "no drain");
	is_code(thrown([&] { (void) none.stats(); }), PQPOOL_BAD_ARGUMENT, "no stats");
	is_code(thrown([&] { (void) none.limits(); }), PQPOOL_BAD_ARGUMENT, "no limits");
	is_code(thrown([&] { scope inside(none); }), PQPOOL_BAD_ARGUMENT, "no scope");
	is_code(thrown([&] { nothing.transfer(); }), PQPOOL_BAD_ARGUMENT, "no transfer of nothing");
	is_code(thrown([&] { nothing.adopt(); }), PQPOOL_BAD_ARGUMENT, "no adoption of nothing");
	is_code(thrown([&] { nothing.cancel(); }), PQPOOL_BAD_ARGUMENT, "no cancelling of nothing");
	ok(!nothing.try_cancel(seconds(1), err) && err.code() == PQPOOL_BAD_ARGUMENT, "quietly either");
}

/*---- threads ----*/

static void
test_threads()
{
	pool p("pool_name=threads pool_max_size=2 pool_bind=thread");
	connection conn = p.acquire();
	int code = -1;

	std::thread([&] { code = conn.release(); }).join();
	is_code(code, PQPOOL_WRONG_THREAD, "a bound loan is not another thread's to release");
	ok(bool(conn), "and stays with its object");
	is_int(p.stats().in_use, 1, "and on loan");
	std::thread([&] { code = thrown([&] { conn.adopt(); }); }).join();
	is_code(code, PQPOOL_WRONG_THREAD, "nor to adopt");

	conn.transfer();
	std::thread(
		[&](connection mine)
		{
			code = thrown([&] { mine.adopt(); });
			is_str(value(mine, "SELECT 1").c_str(), "1", "handed over, a loan works");
		},
		std::move(conn))
		.join();
	is_code(code, PQPOOL_OK, "another thread has adopted it");
	is_int(p.stats().in_use, 0, "and given it back, with its own object");
	is_int((long long) p.stats().abandoned, 0, "before it ended");
}

static void
test_cancel(const Observer &observer)
{
	pool p("pool_name=cancel application_name=cancel");
	connection conn = p.acquire();
	error err;
	std::string ended;

	for (int round = 0; round < 2; round++)
	{
		std::thread sleeper([&] { ended = value(conn, "SELECT pg_sleep(600)"); });
		bool asleep = wait_for(
			[&]
			{
				return observer.ask(
						   "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
						   " AND application_name = 'cancel'") == "1";
			});

		ok(asleep, "a query runs");
		if (round == 0)
			is_code(thrown([&] { conn.cancel(); }), PQPOOL_OK, "it is cancelled");
		else
			ok(conn.try_cancel(seconds(60), err) && !err, "it is cancelled, without exceptions");
		sleeper.join();
		ok(ended.find("canceling statement") != std::string::npos, "and has ended: %s",
		   ended.c_str());
	}
}

/*---- pools ----*/

/* NOLINTBEGIN(bugprone-use-after-move): as above */
static void
test_pools(const Observer &observer)
{
	pool p("pool_name=first application_name=first pool_max_size=2");
	pool q(std::string("pool_name=second application_name=second"));

	(void) p.acquire().get();
	(void) q.acquire().get();
	is_str(observer.sessions("first").c_str(), "1", "two pools with a session each");
	{
		pool moved(std::move(p));

		ok(!p && bool(moved), "a pool is moved into a new object");
		is_str(moved.name(), "first", "and is the same");
		p = std::move(moved);
	}
	is_str(p.name(), "first", "and back");
	pool &alias = p;
	p = std::move(alias);
	is_str(p.name(), "first", "a pool that is moved to itself stays");
	ok(bool(p.acquire()), "and lends");
	swap(p, q);
	is_str(p.name(), "second", "two pools are swapped");
	q = std::move(p);
	is_str(q.name(), "second", "a pool is moved over another");
	ok(wait_for([&] { return observer.sessions("first") == "0"; }), "which has been closed");

	const pool &seen = q;
	is_int(seen.stats().max_size, 10, "stats of what must not change");
	is_int(seen.limits().obeyed, 1, "and limits");
	q.resize(1, 3);
	is_int(seen.stats().max_size, 3, "resize");
	is_code(thrown([&] { q.resize(5, 3); }), PQPOOL_BAD_ARGUMENT, "a bad one");
	{
		connection conn = q.acquire();

		ok(!q.drain(milliseconds(0)), "drain does not wait for a loan");
	}
	ok(q.drain(), "but can");

	pqpool *handle = q.detach();
	ok(!q && handle != nullptr, "a pool is detached");
	q = pool::take(handle);
	ok(bool(q.acquire()), "and taken over");
	ok(q.close(seconds(60)), "close, and everything is back");
	ok(!q, "after which it is empty");
	is_str(observer.sessions("second").c_str(), "0", "and no session is left");
}
/* NOLINTEND(bugprone-use-after-move) */

static void
test_use_after_close(const Observer &observer)
{
	connection late, later;

	{
		pool p("pool_name=closed application_name=closed");

		late = p.acquire();
		later = p.acquire();
		ok(!p.close(milliseconds(0)), "close does not wait for loans");
		ok(!p, "the pool is gone");
		is_code(thrown([&] { (void) p.acquire().get(); }), PQPOOL_BAD_ARGUMENT,
				"and lends nothing");
		ok(p.close(), "closing again is no error");
		is_str(value(late, "SELECT 1").c_str(), "1", "but its loan works");
	}
	is_str(value(late, "SELECT 2").c_str(), "2", "also after the object's end");
	is_code(late.release(), PQPOOL_OK, "and can be released");
	later = connection();
	ok(wait_for([&] { return observer.sessions("closed") == "0"; }), "which closes it");

	/* By the destructor alone. */
	{
		connection outlives;
		{
			pool p("pool_name=dead application_name=dead");

			outlives = p.acquire();
		}
		is_str(value(outlives, "SELECT 3").c_str(), "3", "a loan outlives a pool's object");
	}
	ok(wait_for([&] { return observer.sessions("dead") == "0"; }), "and ends with its own");
}

/*---- the default pool, and scopes ----*/

static std::string
current()
{
	return value(pqpoolxx::get_connection(), "SHOW application_name");
}

static void
throw_in_scope(pool &p)
{
	scope inside(p);

	if (current() == "a")
		throw std::runtime_error("of the program's own");
}

static void
test_scopes()
{
	pool a("application_name=a"), b("application_name=b"), none;
	error err;

	ok(pqpoolxx::initialize("application_name=default"), "the default pool is opened");
	ok(!pqpoolxx::initialize(std::string("application_name=other")), "by the first caller only");
	is_str(current().c_str(), "default", "and lends");
	{
		scope outer(a);

		ok(bool(outer), "a scope is entered");
		is_str(current().c_str(), "a", "and its pool lends");
		{
			scope inner(b, err);

			ok(bool(inner) && !err, "one in it, without exceptions");
			is_str(current().c_str(), "b", "its pool lends");
		}
		is_str(current().c_str(), "a", "the outer one's again");
		{
			scope owned("application_name=owned");

			is_str(current().c_str(), "owned", "a scope with a pool of its own");
			is_code(owned.leave(), PQPOOL_OK, "is left early");
			is_str(current().c_str(), "a", "the outer one's again");
			ok(!owned, "it has been left");
			is_code(owned.leave(), PQPOOL_SCOPE_ORDER, "and cannot be left again");
		}
		is_str(current().c_str(), "a", "nor is it, by its end");
		{
			scope refused(none, err);

			ok(!refused && err.code() == PQPOOL_BAD_ARGUMENT, "a scope that could not be entered");
			is_str(current().c_str(), "a", "changes nothing");
		}
		is_str(current().c_str(), "a", "neither does its end");
		is_code(thrown([&] { scope bad(std::string("pool_nonsense=1")); }), PQPOOL_BAD_OPTION,
				"a scope that throws");
		is_str(current().c_str(), "a", "changes nothing");
	}
	is_str(current().c_str(), "default", "all are left");
	bool caught = false;
	try
	{
		throw_in_scope(a);
	}
	catch (const std::runtime_error &)
	{
		caught = true;
	}
	ok(caught, "an exception leaves a scope");
	is_str(current().c_str(), "default", "and the default pool is the current one again");

	pqpoolxx::close_pool();
	is_str(current().c_str(), "default", "without it the thread has a connection of its own");
	connection own = pqpoolxx::try_get_connection(err);
	ok(bool(own) && !err, "without exceptions");
	(void) own.release();
	pqpoolxx::cleanup_thread_local_connection();
	is_code(own.release(), PQPOOL_BAD_ARGUMENT, "which is gone");
}

/*---- call sites ----*/

static const char *
text_of(pqpoolxx::site where = PQPOOLXX_CALLER)
{
	return where.text();
}

static void
test_call_sites(const Observer &observer)
{
	pool p("pool_name=sites pool_max_size=2");
	connection unnamed = p.acquire(), named = p.acquire(seconds(60), "orders.cpp:42");
	std::string query = "SELECT call_site FROM pgpool_monitor.sessions WHERE pid = ";
	std::string pid = std::to_string(PQbackendPID(unnamed.get()));

	ok(strstr(text_of(), "test_call_sites") != nullptr, "a site is its function: %s", text_of());
	ok(wait_for([&]
				{ return observer.ask(query + pid).find("test_call_sites") != std::string::npos; }),
	   "the server is told which function asked for a loan");
	pid = std::to_string(PQbackendPID(named.get()));
	ok(wait_for([&] { return observer.ask(query + pid) == "orders.cpp:42"; }),
	   "or what the caller said instead");
#ifdef PQPOOL_SITE
	ok(strstr(text_of(PQPOOL_SITE), "wrapper.cpp:") != nullptr, "file and line: %s",
	   text_of(PQPOOL_SITE));
#endif
}

/* An exception that nobody expects shall end the test. */
/*---- scopes for all threads ----*/

/* The name of the current pool in another thread, which enters a scope of that pool itself first if it is given. */
static std::string
current_elsewhere(pqpool *handed)
{
	std::string name;

	std::thread(
		[&]
		{
			if (handed != nullptr)
			{
				scope inside(handed);

				name = pqpool_name(pqpoolxx::current_pool());
			}
			else if (pqpoolxx::current_pool() != nullptr)
				name = pqpool_name(pqpoolxx::current_pool());
		})
		.join();
	return name;
}

static void
test_process_scopes()
{
	pool a("pool_name=a"), b("pool_name=b"), none;
	error err;

	ok(pqpoolxx::current_pool() == nullptr, "no pool is current");
	{
		scope mine(a);

		ok(pqpoolxx::current_pool() == a.get(), "one is, in a scope");
		is_str(current_elsewhere(nullptr).c_str(), "", "but not in another thread");
		is_str(current_elsewhere(pqpoolxx::current_pool()).c_str(), "a",
			   "unless it is handed over");
		{
			scope everybodys(b, pqpoolxx::all_threads);

			ok(bool(everybodys), "a scope of all threads");
			ok(pqpoolxx::current_pool() == a.get(), "a thread's own comes before it");
			is_str(current_elsewhere(nullptr).c_str(), "b", "others are in it");
		}
		is_str(current_elsewhere(nullptr).c_str(), "", "until its block ends");
	}
	{
		scope refused(none, pqpoolxx::all_threads, err);

		ok(!refused && err.code() == PQPOOL_BAD_ARGUMENT, "no scope of an empty pool");
	}
	is_code(thrown([&] { scope bad(none, pqpoolxx::all_threads); }), PQPOOL_BAD_ARGUMENT,
			"nor with an exception");
	{
		scope early(a, pqpoolxx::all_threads, err);
		int code = -1;

		std::thread([&] { code = early.leave(); }).join();
		is_code(code, PQPOOL_OK, "any thread may leave it");
		ok(!early && pqpoolxx::current_pool() == nullptr, "and then it is left");
	}
}

/*---- hooks ----*/

struct Heard
{
	std::atomic<int> configured, closed;
};

static int
configure(PGconn *conn, void *arg)
{
	static_cast<Heard *>(arg)->configured++;
	return value(conn, "SET application_name = 'configured'") != "";
}

static int
refuse(PGconn *conn, void *arg)
{
	(void) conn;
	(void) arg;
	return 1;
}

static void
event(const pqpool_event *event, void *arg)
{
	if (event->type == PQPOOL_EVENT_CLOSED)
		static_cast<Heard *>(arg)->closed++;
}

static void
test_hooks()
{
	Heard heard = {};
	error err;
	pqpool_hooks hooks = {};

	hooks.arg = &heard;
	hooks.configure = configure;
	hooks.event = event;
	{
		pool p(std::string("pool_name=hooked"), hooks);
		connection conn = p.acquire();

		is_str(value(conn, "SHOW application_name").c_str(), "configured", "a hook is called");
		conn.release();
		ok(p.close(), "the pool is closed");
	}
	is_int(heard.configured, 1, "once for a connection");
	is_int(heard.closed, 1, "and told of its end");
	hooks.configure = refuse;
	{
		pool p = pool::try_open("pool_name=refused", hooks, err);

		ok(bool(p) && !err, "a pool with another hook");
		is_code(thrown([&] { (void) p.acquire().get(); }), PQPOOL_HOOK, "which refuses");
		ok(p.close(), "and is closed");
	}
	is_code(thrown([&] { pool bad("pool_nonsense=1", hooks); }), PQPOOL_BAD_OPTION,
			"a bad option is one with hooks, too");
}

/*---- event loops ----*/

/* Wait until something is in it, and take that out. */
static bool
take(inbox &from, void *&tag, connection &conn, error &err)
{
	struct pollfd poll_fd = { from.fd(), POLLIN, 0 };

	while (!from.next(tag, conn, err))
		if (poll(&poll_fd, 1, 60000) != 1)
			return false;
	return true;
}

static void
test_inbox()
{
	pool p("pool_name=inbox pool_max_size=1"), none;
	inbox in, other;
	connection conn, second;
	error err;
	int tags[3];
	void *tag = nullptr;
	std::uint64_t ticket;

	ok(bool(in) && in.fd() >= 0, "an inbox");
	ok(!in.next(tag, conn, err) && !err, "is empty at first");
	ok(in.start(p, &tags[0]) != 0, "an acquire is started");
	ok(take(in, tag, conn, err), "and ends");
	ok(tag == &tags[0] && bool(conn) && !err, "with a connection");
	is_str(value(conn, "SELECT 1").c_str(), "1", "that works");
	in.start(p, milliseconds(10), &tags[1]);
	ok(take(in, tag, second, err), "another one ends");
	ok(tag == &tags[1] && !second, "without");
	is_code(err.code(), PQPOOL_TIMED_OUT, "by its deadline");
	ticket = in.try_start(p, &tags[2], err);
	ok(ticket != 0 && !err, "a third waits");
	ok(in.cancel(ticket), "is taken back");
	ok(!in.cancel(ticket), "once");
	is_int(p.stats().waiting, 0, "and waits no more");
	in.start(p, &tags[2]);
	other = std::move(in);
	ok(!in && in.fd() == -1, "an inbox that was moved from is empty"); /* NOLINT */
	conn.release();
	ok(take(other, tag, conn, err) && tag == &tags[2] && bool(conn), "results move with it");
	conn.release();
	is_code(thrown([&] { other.start(none, nullptr); }), PQPOOL_BAD_ARGUMENT, "no empty pool");
	ok(in.try_start(p, milliseconds(5), nullptr, err) == 0 && err.code() == PQPOOL_BAD_ARGUMENT,
	   "no empty inbox");
	{
		inbox brief = inbox::try_open(err);
		connection held = p.acquire();

		ok(bool(brief) && !err, "one for a while");
		brief.start(p, nullptr);
		is_int(p.stats().waiting, 1, "with an acquire under way");
		brief.close();
		ok(!brief, "is closed");
		is_int(p.stats().waiting, 0, "which takes it back");
	}
	{
		inbox dies;
		connection held = p.acquire();

		dies.start(p, nullptr);
	}
	is_int(p.stats().waiting, 0, "as the end of its life does");
	ok(p.close(), "nothing is out");
}

int
main() /* NOLINT(bugprone-exception-escape) */
{
	Observer observer;

	test_loans();
	test_moves();
	test_unwinding(observer);
	test_errors();
	test_timeouts();
	test_empty();
	test_threads();
	test_cancel(observer);
	test_pools(observer);
	test_use_after_close(observer);
	test_scopes();
	test_process_scopes();
	test_hooks();
	test_inbox();
	test_call_sites(observer);
	return done_testing();
}
