/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  The smallest emitter of the Test Anything Protocol that the C tests need.
 *
 *		int
 *		main(void)
 *		{
 *			ok(1 + 1 == 2, "arithmetic holds");
 *			is_int(f(3), 9, "f squares");
 *			return done_testing();
 *		}
 *
 * One program is one test file. ok() and diag() may be called by any thread:
 * each writes its line whole, and numbers are given under the same lock. In a
 * loop of a million operations count the failures, and say ok() once.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TAP_H
#define TAP_H

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With the condition's text and place, so that a failing line says where it stands. */
#define ok(condition, ...) tap_ok((condition), #condition, __FILE__, __LINE__, __VA_ARGS__)
#define is_int(got, expected, ...) \
	tap_is_int((long long) (got), (long long) (expected), __FILE__, __LINE__, __VA_ARGS__)
#define is_str(got, expected, ...) tap_is_str((got), (expected), __FILE__, __LINE__, __VA_ARGS__)

/* Each program includes this once: state may be static, functions may be unused. */
#define TAP_UNUSED __attribute__((unused))

static pthread_mutex_t tap_lock = PTHREAD_MUTEX_INITIALIZER;
static int tap_run; /* under tap_lock, as the next two */
static int tap_failed;
static bool tap_planned;

/*
 * Caller holds the lock. Comments go to standard output as well, to stay in order with what
 * they explain.
 */
static inline void
tap_result(bool passed, const char *format, va_list arguments)
{
	tap_run++;
	tap_failed += !passed;
	printf("%sok %d - ", passed ? "" : "not ", tap_run);
	vprintf(format, arguments);
	putchar('\n');
}

/* Optional: says beforehand how many tests there are, so that a program that ends early is seen. */
TAP_UNUSED static inline void
plan(int tests)
{
	pthread_mutex_lock(&tap_lock);
	printf("1..%d\n", tests);
	fflush(stdout);
	tap_planned = true;
	pthread_mutex_unlock(&tap_lock);
}

TAP_UNUSED __attribute__((format(printf, 5, 6))) static bool
tap_ok(bool passed, const char *condition, const char *file, int line, const char *format, ...)
{
	va_list arguments;

	pthread_mutex_lock(&tap_lock);
	va_start(arguments, format);
	tap_result(passed, format, arguments);
	va_end(arguments);
	if (!passed)
		printf("#   %s:%d: %s\n", file, line, condition);
	fflush(stdout);
	pthread_mutex_unlock(&tap_lock);
	return passed;
}

TAP_UNUSED __attribute__((format(printf, 5, 6))) static bool
tap_is_int(long long got, long long expected, const char *file, int line, const char *format, ...)
{
	va_list arguments;

	pthread_mutex_lock(&tap_lock);
	va_start(arguments, format);
	tap_result(got == expected, format, arguments);
	va_end(arguments);
	if (got != expected)
		printf("#   %s:%d: got %lld, expected %lld\n", file, line, got, expected);
	fflush(stdout);
	pthread_mutex_unlock(&tap_lock);
	return got == expected;
}

/* NULL is equal to NULL only. */
TAP_UNUSED __attribute__((format(printf, 5, 6))) static bool
tap_is_str(const char *got, const char *expected, const char *file, int line, const char *format,
		   ...)
{
	bool passed =
		got == expected || (got != NULL && expected != NULL && strcmp(got, expected) == 0);
	va_list arguments;

	pthread_mutex_lock(&tap_lock);
	va_start(arguments, format);
	tap_result(passed, format, arguments);
	va_end(arguments);
	if (!passed)
		printf("#   %s:%d: got \"%s\", expected \"%s\"\n", file, line, got ? got : "(null)",
			   expected ? expected : "(null)");
	fflush(stdout);
	pthread_mutex_unlock(&tap_lock);
	return passed;
}

/* A remark; may be of several lines only if each begins with '#'. */
TAP_UNUSED __attribute__((format(printf, 1, 2))) static void
diag(const char *format, ...)
{
	va_list arguments;

	pthread_mutex_lock(&tap_lock);
	fputs("# ", stdout);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
	pthread_mutex_unlock(&tap_lock);
}

/* Ends the program, passed, before its first test: it cannot be run here. */
TAP_UNUSED __attribute__((noreturn)) static void
skip_all(const char *reason)
{
	printf("1..0 # SKIP %s\n", reason);
	fflush(stdout);
	exit(0);
}

/* The last line of main: `return done_testing();`. */
TAP_UNUSED static int
done_testing(void)
{
	int failed;

	pthread_mutex_lock(&tap_lock);
	if (!tap_planned)
		printf("1..%d\n", tap_run);
	fflush(stdout);
	failed = tap_failed;
	pthread_mutex_unlock(&tap_lock);
	return failed > 0;
}

#endif /* TAP_H */
