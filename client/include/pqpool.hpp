/*-------------------------------------------------------------------------
 *
 * pqpool.hpp
 *	  libpqpool for C++: loans, pools and scopes as objects, errors as
 *	  exceptions.
 *
 *		#include <pqpool.hpp>
 *
 *		pqpoolxx::pool pool("dbname=shop pool_name=orders pool_max_size=20");
 *		{
 *			pqpoolxx::connection conn = pool.acquire();
 *
 *			PQclear(PQexec(conn.get(), "SELECT 1"));
 *		}										conn goes back here, also by an exception
 *
 * pqpool.h is the manual: what a call does, when it blocks and what it answers
 * stands there, and is not repeated.  Here stands what C++ adds.  There is no
 * second library: everything below is inline, needs C++11 and the standard
 * library, and calls the C functions, with which it may be mixed.
 *
 * The namespace is not called pqpool, because that is the name of a type in C.
 *
 *
 * 1. RULES THAT HOLD FOR EVERY CALL
 *
 * Errors.  What fails throws pqpoolxx::error, which holds a whole pqpool_error.
 * The functions whose name begins with try_ do not throw: they take an error as
 * an argument, always write it, and return something empty or false on failure.
 * What is declared noexcept does not throw either. Without exceptions
 * (-fno-exceptions) what would throw calls std::terminate().
 *
 * Empty objects.  A pool or connection that was moved from, closed, given back
 * or made without arguments is empty.  It may be destroyed, assigned to, tested
 * and closed, and its names are empty; what else is asked of it fails with
 * PQPOOL_BAD_ARGUMENT.
 *
 * Durations are std::chrono's, and not negative: what is, because a deadline of
 * the caller's has passed, is taken for zero.  The -1 of the C functions is
 * the function without that argument.
 *
 * Threads.  As in C: any number of threads may call the member functions of one
 * pool object.  But it is one thread's to close, to move or to destroy it, when
 * no other uses it any more.  A connection or a scope is one thread's at a time.
 *
 * Call sites.  For the reports on leaks, a loan remembers the function that
 * asked for it: by std::source_location where there is one (C++20), else by its
 * bare name.  Where file and line are wanted, pass PQPOOL_SITE.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQPOOL_HPP
#define PQPOOL_HPP

#include <pqpool.h>

#include <chrono>
#include <climits>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <utility>

#if __cplusplus >= 202002L
#include <version>
#endif
#ifdef __cpp_lib_source_location
#include <source_location>
#define PQPOOLXX_CALLER std::source_location::current()
#elif defined(__GNUC__)
#define PQPOOLXX_CALLER __builtin_FUNCTION()
#else
#define PQPOOLXX_CALLER nullptr
#endif

#if __cplusplus >= 201703L
#define PQPOOLXX_NODISCARD [[nodiscard]]
#else
#define PQPOOLXX_NODISCARD PQPOOL_WARN_UNUSED
#endif

namespace pqpoolxx
{

using std::chrono::milliseconds;

/*
 * 2. ERRORS
 *
 * What went wrong; or that nothing did, which is what a new one says, and what
 * the try_ functions write on success.  Copying does not allocate.
 */
class PQPOOL_API error : public std::exception
{
  public:
	error() noexcept;
	/* of a function that returns nothing but a code */
	explicit error(int code) noexcept;
	explicit error(const pqpool_error &err) noexcept;

	/* something did go wrong */
	explicit operator bool() const noexcept;

	/* a pqpool_code, its name, and the C struct's members; never NULL */
	int code() const noexcept;
	const char *name() const noexcept;
	const char *sqlstate() const noexcept;
	const char *cause() const noexcept;
	const char *what() const noexcept override;

	/* for C functions to write into */
	pqpool_error *get() noexcept;

  private:
	pqpool_error err_;
};

/*
 * Where a loan was asked for.  Made without being named: by the default
 * argument of what takes one.  A text of the caller's must outlive the loan, as
 * a literal does.
 */
class site
{
  public:
	constexpr site(const char *text) noexcept : text_(text)
	{
	}
#ifdef __cpp_lib_source_location
	constexpr site(const std::source_location &where) noexcept : text_(where.function_name())
	{
	}
#endif
	constexpr const char *
	text() const noexcept
	{
		return text_;
	}

  private:
	const char *text_;
};

/*
 * 3. CONNECTIONS
 *
 * A loan, given back when the object dies or is assigned to.  That never
 * throws, but may block as pqpool_release() does, for a ROLLBACK.  A connection
 * may outlive its pool.
 *
 * It can be moved, not copied.  To hand it to another thread, move it there; a
 * bound loan (of get_connection(), or with pool_bind=thread) is transferred
 * first, and adopted there if it shall be bound again.
 */
class connection
{
  public:
	connection() noexcept;
	connection(connection &&other) noexcept;
	connection &operator=(connection &&other) noexcept;
	connection(const connection &) = delete;
	connection &operator=(const connection &) = delete;
	~connection();

	/* it is a loan, and not empty */
	explicit operator bool() const noexcept;

	/* for libpq; NULL if empty.  As in C: neither PQfinish nor PQreset. */
	PGconn *get() const noexcept;

	/*
	 * pqpool_release() and pqpool_discard(), and what they return.  Empty
	 * afterwards, except after PQPOOL_WRONG_THREAD: then it is still on loan.
	 */
	int release() noexcept;
	int discard() noexcept;

	/* pqpool_transfer() and pqpool_adopt(): unbind from this thread, bind to it. */
	void transfer();
	void adopt();

	/*
	 * pqpool_cancel().  While another thread waits for a result, this may be
	 * called, as long as the object is not moved from or given back meanwhile.
	 */
	void cancel() const;
	void cancel(milliseconds timeout) const;
	bool try_cancel(milliseconds timeout, error &err) const noexcept;

	/* Empty afterwards without giving back: the caller owes the pqpool_release(). */
	PQPOOLXX_NODISCARD PGconn *detach() noexcept;
	/* The reverse, for a loan of the C functions. */
	PQPOOLXX_NODISCARD static connection take(PGconn *loan) noexcept;

	void swap(connection &other) noexcept;

  private:
	explicit connection(PGconn *loan) noexcept;

	PGconn *conn_;
};

/*
 * 4. POOLS
 *
 * Closed without waiting when the object dies or is assigned to: loans that are
 * out stay usable, and are closed when given back.  close() before that waits.
 */
class pool
{
  public:
	pool() noexcept;
	/* pqpool_open() */
	explicit pool(const char *conninfo);
	explicit pool(const std::string &conninfo);
	/* pqpool_open_hooked(), with the C struct as it is; its functions must not throw. */
	pool(const char *conninfo, const pqpool_hooks &hooks);
	pool(const std::string &conninfo, const pqpool_hooks &hooks);
	pool(pool &&other) noexcept;
	pool &operator=(pool &&other) noexcept;
	pool(const pool &) = delete;
	pool &operator=(const pool &) = delete;
	~pool();

	PQPOOLXX_NODISCARD static pool try_open(const char *conninfo, error &err) noexcept;
	PQPOOLXX_NODISCARD static pool try_open(const std::string &conninfo, error &err) noexcept;
	PQPOOLXX_NODISCARD static pool try_open(const char *conninfo, const pqpool_hooks &hooks,
											error &err) noexcept;

	/* there is a pool, open or closed by somebody else */
	explicit operator bool() const noexcept;

	/*
	 * pqpool_acquire().  Without timeout: pool_acquire_timeout; zero takes only
	 * what is there now.
	 */
	PQPOOLXX_NODISCARD connection acquire(site where = PQPOOLXX_CALLER);
	PQPOOLXX_NODISCARD connection acquire(milliseconds timeout, site where = PQPOOLXX_CALLER);
	/* 0 is no duration, but would be a site. */
	connection acquire(int) = delete;
	PQPOOLXX_NODISCARD connection try_acquire(error &err, site where = PQPOOLXX_CALLER) noexcept;
	PQPOOLXX_NODISCARD connection try_acquire(milliseconds timeout, error &err,
											  site where = PQPOOLXX_CALLER) noexcept;

	/*
	 * pqpool_close().  Without timeout: as long as it takes.  False: some loan or
	 * connection was still out.  Empty afterwards either way.
	 */
	bool close() noexcept;
	bool close(milliseconds timeout) noexcept;

	/* pqpool_resize(): -1 leaves one as it is. */
	void resize(int min_size, int max_size);

	/* pqpool_pause() and pqpool_resume(): as many of these as of those. */
	void pause();
	void resume();

	/* pqpool_drain().  Without timeout: as long as it takes.  False: it ran out. */
	bool drain();
	bool drain(milliseconds timeout);

	/* pqpool_name(), pqpool_id(): never NULL, valid until the pool is closed */
	const char *name() const noexcept;
	const char *id() const noexcept;

	/* pqpool_stats(), pqpool_limits() */
	pqpool_statistics stats() const;
	pqpool_allotment limits() const;

	/* for C functions; NULL if empty */
	pqpool *get() const noexcept;
	/* Empty afterwards without closing: the caller owes the pqpool_close(). */
	PQPOOLXX_NODISCARD pqpool *detach() noexcept;
	/* The reverse, for a pool of pqpool_open(). */
	PQPOOLXX_NODISCARD static pool take(pqpool *handle) noexcept;

	void swap(pool &other) noexcept;

  private:
	pqpool *pool_;
};

void swap(connection &a, connection &b) noexcept;
void swap(pool &a, pool &b) noexcept;

/*
 * 5. THE DEFAULT POOL, AND A THREAD'S OWN CONNECTION
 */

/* pqpool_initialize().  True: opened by this call.  False: it was open already. */
bool initialize(const char *conninfo);
bool initialize(const std::string &conninfo);

/* pqpool_get_connection(): bound to this thread, by which it must be given back. */
PQPOOLXX_NODISCARD connection get_connection(site where = PQPOOLXX_CALLER);
PQPOOLXX_NODISCARD connection try_get_connection(error &err, site where = PQPOOLXX_CALLER) noexcept;

void close_pool() noexcept;
void cleanup_thread_local_connection() noexcept;

/*
 * 6. SCOPES
 *
 * Makes a pool this thread's current one while the object lives:
 *
 *		pqpoolxx::scope scope(reports);
 *		pqpoolxx::connection conn = pqpoolxx::get_connection();		from reports
 *
 * Belongs to the block and the thread that made it, so it is neither copied nor
 * moved.  One for all threads may be left by any of them.
 */
struct all_threads_t
{
};
constexpr all_threads_t all_threads = {};

class scope
{
  public:
	/* pqpool_scope_enter().  The pool must stay open. */
	explicit scope(pool &current);
	scope(pool &current, error &err) noexcept;
	/* of a pool that current_pool() gave in another thread */
	explicit scope(pqpool *current);
	scope(pqpool *current, error &err) noexcept;
	/* pqpool_scope_enter_process() */
	scope(pool &current, all_threads_t);
	scope(pool &current, all_threads_t, error &err) noexcept;
	/* pqpool_scope_enter_conninfo(): with a pool of its own. */
	explicit scope(const char *conninfo);
	explicit scope(const std::string &conninfo);
	scope(const scope &) = delete;
	scope &operator=(const scope &) = delete;
	~scope();

	/* it was entered, and has not been left */
	explicit operator bool() const noexcept;

	/*
	 * pqpool_scope_leave(), before the block ends, and what it returns.  Again is
	 * PQPOOL_SCOPE_ORDER and does nothing.
	 */
	int leave() noexcept;

  private:
	pqpool_scope scope_;
	bool entered_;
};

/* pqpool_current(): NULL if there is none. */
pqpool *current_pool() noexcept;

/*
 * 7. EVENT LOOPS
 *
 * Where acquires that have been started end, one after the other:
 *
 *		pqpoolxx::inbox inbox;						inbox.fd() goes into the loop's epoll set
 *		inbox.start(pool, std::chrono::seconds(2), my_request);
 *		...
 *		while (inbox.next(tag, conn, err))
 *			if (conn) ... use it, without blocking ...
 *			else ... err says why ...
 *
 * When it dies, acquires that are under way are taken back.  It can be moved,
 * not copied; one that was moved from or closed is empty.
 */
class inbox
{
  public:
	/* pqpool_inbox_open() */
	inbox();
	inbox(inbox &&other) noexcept;
	inbox &operator=(inbox &&other) noexcept;
	inbox(const inbox &) = delete;
	inbox &operator=(const inbox &) = delete;
	~inbox();

	PQPOOLXX_NODISCARD static inbox try_open(error &err) noexcept;

	explicit operator bool() const noexcept;

	/* pqpool_inbox_fd(); -1 if empty */
	int fd() const noexcept;

	/*
	 * pqpool_acquire_start(), which return the ticket.  Without timeout:
	 * pool_acquire_timeout.  try_start() returns 0 if nothing was started.
	 */
	std::uint64_t start(pool &from, void *tag, site where = PQPOOLXX_CALLER);
	std::uint64_t start(pool &from, milliseconds timeout, void *tag, site where = PQPOOLXX_CALLER);
	std::uint64_t try_start(pool &from, void *tag, error &err,
							site where = PQPOOLXX_CALLER) noexcept;
	std::uint64_t try_start(pool &from, milliseconds timeout, void *tag, error &err,
							site where = PQPOOLXX_CALLER) noexcept;

	/*
	 * pqpool_inbox_next().  False: nothing is there, and nothing is changed but
	 * err.  True: either conn is a loan, or err says why there is none.
	 */
	bool next(void *&tag, connection &conn, error &err) noexcept;

	/* pqpool_acquire_cancel().  False: it has come out, or never was. */
	bool cancel(std::uint64_t ticket) noexcept;

	/* pqpool_inbox_close() */
	void close() noexcept;

	/* for C functions; NULL if empty */
	pqpool_inbox *get() const noexcept;

	void swap(inbox &other) noexcept;

  private:
	explicit inbox(pqpool_inbox *handle) noexcept;
	std::uint64_t begin(pool &from, int timeout_ms, void *tag, error &err, site where) noexcept;

	pqpool_inbox *inbox_;
};

void swap(inbox &a, inbox &b) noexcept;

/*-------------------------------------------------------------------------
 * What follows is how.
 *-------------------------------------------------------------------------
 */

namespace detail
{

[[noreturn]] inline void
fail(const error &err)
{
#if defined(__cpp_exceptions) || defined(__EXCEPTIONS)
	throw err;
#else
	(void) err;
	std::terminate();
#endif
}

inline void
check(const error &err)
{
	if (err)
		fail(err);
}

inline void
check(int code)
{
	if (code != PQPOOL_OK)
		fail(error(code));
}

/* Of what may run out of time. */
inline bool
in_time(int code)
{
	if (code != PQPOOL_TIMED_OUT)
		check(code);
	return code == PQPOOL_OK;
}

inline int
to_ms(milliseconds timeout) noexcept
{
	if (timeout.count() <= 0)
		return 0;
	return timeout.count() < INT_MAX ? static_cast<int>(timeout.count()) : INT_MAX;
}

} // namespace detail

/*---- errors ----*/

inline error::error() noexcept : std::exception(), err_()
{
}

inline error::error(int code) noexcept : std::exception(), err_()
{
	err_.code = code;
	std::strncpy(err_.message, pqpool_strerror(code), sizeof(err_.message) - 1);
}

inline error::error(const pqpool_error &err) noexcept : std::exception(), err_(err)
{
}

inline error::operator bool() const noexcept
{
	return err_.code != PQPOOL_OK;
}

inline int
error::code() const noexcept
{
	return err_.code;
}

inline const char *
error::name() const noexcept
{
	return pqpool_code_name(err_.code);
}

inline const char *
error::sqlstate() const noexcept
{
	return err_.sqlstate;
}

inline const char *
error::cause() const noexcept
{
	return err_.cause;
}

inline const char *
error::what() const noexcept
{
	return err_.message[0] != '\0' ? err_.message : pqpool_strerror(err_.code);
}

inline pqpool_error *
error::get() noexcept
{
	return &err_;
}

/*---- connections ----*/

inline connection::connection() noexcept : conn_(nullptr)
{
}

inline connection::connection(PGconn *loan) noexcept : conn_(loan)
{
}

inline connection::connection(connection &&other) noexcept : conn_(other.detach())
{
}

/* By way of a third, so that one that is moved to itself is what it was. */
inline connection &
connection::operator=(connection &&other) noexcept
{
	connection moved(std::move(other));

	swap(moved);
	return *this;
}

inline connection::~connection()
{
	if (conn_ != nullptr)
		(void) pqpool_release(conn_);
}

inline connection::operator bool() const noexcept
{
	return conn_ != nullptr;
}

inline PGconn *
connection::get() const noexcept
{
	return conn_;
}

inline int
connection::release() noexcept
{
	int code = pqpool_release(conn_);

	if (code != PQPOOL_WRONG_THREAD)
		conn_ = nullptr;
	return code;
}

inline int
connection::discard() noexcept
{
	int code = pqpool_discard(conn_);

	if (code != PQPOOL_WRONG_THREAD)
		conn_ = nullptr;
	return code;
}

inline void
connection::transfer()
{
	detail::check(pqpool_transfer(conn_));
}

inline void
connection::adopt()
{
	detail::check(pqpool_adopt(conn_));
}

inline void
connection::cancel() const
{
	error err;

	(void) pqpool_cancel(conn_, -1, err.get());
	detail::check(err);
}

inline void
connection::cancel(milliseconds timeout) const
{
	error err;

	(void) try_cancel(timeout, err);
	detail::check(err);
}

inline bool
connection::try_cancel(milliseconds timeout, error &err) const noexcept
{
	return pqpool_cancel(conn_, detail::to_ms(timeout), err.get()) == PQPOOL_OK;
}

inline PGconn *
connection::detach() noexcept
{
	PGconn *loan = conn_;

	conn_ = nullptr;
	return loan;
}

inline connection
connection::take(PGconn *loan) noexcept
{
	return connection(loan);
}

inline void
connection::swap(connection &other) noexcept
{
	std::swap(conn_, other.conn_);
}

inline void
swap(connection &a, connection &b) noexcept
{
	a.swap(b);
}

/*---- pools ----*/

inline pool::pool() noexcept : pool_(nullptr)
{
}

inline pool::pool(const char *conninfo) : pool_(nullptr)
{
	error err;

	pool_ = pqpool_open(conninfo, err.get());
	detail::check(err);
}

inline pool::pool(const std::string &conninfo) : pool(conninfo.c_str())
{
}

inline pool::pool(const char *conninfo, const pqpool_hooks &hooks) : pool_(nullptr)
{
	error err;

	pool_ = pqpool_open_hooked_sized(conninfo, &hooks, sizeof(hooks), err.get());
	detail::check(err);
}

inline pool::pool(const std::string &conninfo, const pqpool_hooks &hooks)
	: pool(conninfo.c_str(), hooks)
{
}

inline pool::pool(pool &&other) noexcept : pool_(other.detach())
{
}

inline pool &
pool::operator=(pool &&other) noexcept
{
	pool moved(std::move(other));

	swap(moved);
	return *this;
}

inline pool::~pool()
{
	(void) pqpool_close(&pool_, 0);
}

inline pool
pool::try_open(const char *conninfo, error &err) noexcept
{
	return take(pqpool_open(conninfo, err.get()));
}

inline pool
pool::try_open(const std::string &conninfo, error &err) noexcept
{
	return try_open(conninfo.c_str(), err);
}

inline pool
pool::try_open(const char *conninfo, const pqpool_hooks &hooks, error &err) noexcept
{
	return take(pqpool_open_hooked_sized(conninfo, &hooks, sizeof(hooks), err.get()));
}

inline pool::operator bool() const noexcept
{
	return pool_ != nullptr;
}

inline connection
pool::acquire(site where)
{
	error err;
	connection conn = try_acquire(err, where);

	detail::check(err);
	return conn;
}

inline connection
pool::acquire(milliseconds timeout, site where)
{
	error err;
	connection conn = try_acquire(timeout, err, where);

	detail::check(err);
	return conn;
}

inline connection
pool::try_acquire(error &err, site where) noexcept
{
	return connection::take(pqpool_acquire_at(pool_, -1, err.get(), where.text()));
}

inline connection
pool::try_acquire(milliseconds timeout, error &err, site where) noexcept
{
	return connection::take(
		pqpool_acquire_at(pool_, detail::to_ms(timeout), err.get(), where.text()));
}

inline bool
pool::close() noexcept
{
	return pqpool_close(&pool_, -1) == PQPOOL_OK;
}

inline bool
pool::close(milliseconds timeout) noexcept
{
	return pqpool_close(&pool_, detail::to_ms(timeout)) == PQPOOL_OK;
}

inline void
pool::resize(int min_size, int max_size)
{
	error err;

	(void) pqpool_resize(pool_, min_size, max_size, err.get());
	detail::check(err);
}

inline void
pool::pause()
{
	detail::check(pqpool_pause(pool_));
}

inline void
pool::resume()
{
	detail::check(pqpool_resume(pool_));
}

inline bool
pool::drain()
{
	return detail::in_time(pqpool_drain(pool_, -1));
}

inline bool
pool::drain(milliseconds timeout)
{
	return detail::in_time(pqpool_drain(pool_, detail::to_ms(timeout)));
}

inline const char *
pool::name() const noexcept
{
	return pqpool_name(pool_);
}

inline const char *
pool::id() const noexcept
{
	return pqpool_id(pool_);
}

inline pqpool_statistics
pool::stats() const
{
	pqpool_statistics stats;

	detail::check(pqpool_stats(pool_, &stats));
	return stats;
}

inline pqpool_allotment
pool::limits() const
{
	pqpool_allotment allotment;

	detail::check(pqpool_limits(pool_, &allotment));
	return allotment;
}

inline pqpool *
pool::get() const noexcept
{
	return pool_;
}

inline pqpool *
pool::detach() noexcept
{
	pqpool *handle = pool_;

	pool_ = nullptr;
	return handle;
}

inline pool
pool::take(pqpool *handle) noexcept
{
	pool taken;

	taken.pool_ = handle;
	return taken;
}

inline void
pool::swap(pool &other) noexcept
{
	std::swap(pool_, other.pool_);
}

inline void
swap(pool &a, pool &b) noexcept
{
	a.swap(b);
}

/*---- the default pool ----*/

inline bool
initialize(const char *conninfo)
{
	error err;

	(void) pqpool_initialize(conninfo, err.get());
	if (err.code() == PQPOOL_ALREADY_INITIALIZED)
		return false;
	detail::check(err);
	return true;
}

inline bool
initialize(const std::string &conninfo)
{
	return initialize(conninfo.c_str());
}

inline connection
get_connection(site where)
{
	error err;
	connection conn = try_get_connection(err, where);

	detail::check(err);
	return conn;
}

inline connection
try_get_connection(error &err, site where) noexcept
{
	return connection::take(pqpool_get_connection_at(err.get(), where.text()));
}

inline void
close_pool() noexcept
{
	(void) pqpool_close_pool();
}

inline void
cleanup_thread_local_connection() noexcept
{
	(void) pqpool_cleanup_thread_local_connection();
}

/*---- scopes ----*/

inline scope::scope(pool &current) : scope(current.get())
{
}

inline scope::scope(pool &current, error &err) noexcept : scope(current.get(), err)
{
}

inline scope::scope(pqpool *current) : scope_(), entered_(false)
{
	error err;

	entered_ = pqpool_scope_enter(&scope_, current, err.get()) == PQPOOL_OK;
	detail::check(err);
}

inline scope::scope(pqpool *current, error &err) noexcept
	: scope_(), entered_(pqpool_scope_enter(&scope_, current, err.get()) == PQPOOL_OK)
{
}

inline scope::scope(pool &current, all_threads_t) : scope_(), entered_(false)
{
	error err;

	entered_ = pqpool_scope_enter_process(&scope_, current.get(), err.get()) == PQPOOL_OK;
	detail::check(err);
}

inline scope::scope(pool &current, all_threads_t, error &err) noexcept
	: scope_(), entered_(pqpool_scope_enter_process(&scope_, current.get(), err.get()) == PQPOOL_OK)
{
}

inline scope::scope(const char *conninfo) : scope_(), entered_(false)
{
	error err;

	entered_ = pqpool_scope_enter_conninfo(&scope_, conninfo, err.get()) == PQPOOL_OK;
	detail::check(err);
}

inline scope::scope(const std::string &conninfo) : scope(conninfo.c_str())
{
}

inline scope::~scope()
{
	if (entered_)
		(void) pqpool_scope_leave(&scope_);
}

inline scope::operator bool() const noexcept
{
	return entered_;
}

inline int
scope::leave() noexcept
{
	int code = pqpool_scope_leave(&scope_);

	if (code != PQPOOL_WRONG_THREAD)
		entered_ = false;
	return code;
}

inline pqpool *
current_pool() noexcept
{
	return pqpool_current();
}

/*---- event loops ----*/

inline inbox::inbox(pqpool_inbox *handle) noexcept : inbox_(handle)
{
}

inline inbox::inbox() : inbox_(nullptr)
{
	error err;

	inbox_ = pqpool_inbox_open(err.get());
	detail::check(err);
}

inline inbox::inbox(inbox &&other) noexcept : inbox_(other.inbox_)
{
	other.inbox_ = nullptr;
}

inline inbox &
inbox::operator=(inbox &&other) noexcept
{
	inbox moved(std::move(other));

	swap(moved);
	return *this;
}

inline inbox::~inbox()
{
	close();
}

inline inbox
inbox::try_open(error &err) noexcept
{
	return inbox(pqpool_inbox_open(err.get()));
}

inline inbox::operator bool() const noexcept
{
	return inbox_ != nullptr;
}

inline int
inbox::fd() const noexcept
{
	return pqpool_inbox_fd(inbox_);
}

inline std::uint64_t
inbox::begin(pool &from, int timeout_ms, void *tag, error &err, site where) noexcept
{
	std::uint64_t ticket = 0;

	if (pqpool_acquire_start_at(from.get(), timeout_ms, inbox_, tag, &ticket, err.get(),
								where.text()) != PQPOOL_OK)
		return 0;
	return ticket;
}

inline std::uint64_t
inbox::start(pool &from, void *tag, site where)
{
	error err;
	std::uint64_t ticket = try_start(from, tag, err, where);

	detail::check(err);
	return ticket;
}

inline std::uint64_t
inbox::start(pool &from, milliseconds timeout, void *tag, site where)
{
	error err;
	std::uint64_t ticket = try_start(from, timeout, tag, err, where);

	detail::check(err);
	return ticket;
}

inline std::uint64_t
inbox::try_start(pool &from, void *tag, error &err, site where) noexcept
{
	return begin(from, -1, tag, err, where);
}

inline std::uint64_t
inbox::try_start(pool &from, milliseconds timeout, void *tag, error &err, site where) noexcept
{
	return begin(from, detail::to_ms(timeout), tag, err, where);
}

inline bool
inbox::next(void *&tag, connection &conn, error &err) noexcept
{
	PGconn *loan = nullptr;

	if (!pqpool_inbox_next(inbox_, &tag, &loan, err.get()))
		return false;
	conn = connection::take(loan);
	return true;
}

inline bool
inbox::cancel(std::uint64_t ticket) noexcept
{
	return pqpool_acquire_cancel(inbox_, ticket) == PQPOOL_OK;
}

inline void
inbox::close() noexcept
{
	(void) pqpool_inbox_close(&inbox_);
}

inline pqpool_inbox *
inbox::get() const noexcept
{
	return inbox_;
}

inline void
inbox::swap(inbox &other) noexcept
{
	std::swap(inbox_, other.inbox_);
}

inline void
swap(inbox &a, inbox &b) noexcept
{
	a.swap(b);
}

} // namespace pqpoolxx

#endif /* PQPOOL_HPP */
