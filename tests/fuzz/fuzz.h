/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What the fuzz targets have in common.
 *
 * A target is one program, linked with clang's libFuzzer. It judges what the
 * code under test made of an input by hold(): a condition that is true for every
 * input, beyond "it did not crash". One that does not hold ends the program with
 * the condition, the place and what else there is to say, and libFuzzer
 * then writes the input to a file.
 *
 * Inputs are text that a person can read and write; the one newline that an editor
 * puts at the end of a file is not part of it. How to run, and what to do with
 * a finding: fuzz.sh.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_UNUSED __attribute__((unused))

#define countof(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* libFuzzer's names. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

__attribute__((noreturn, format(printf, 4, 5))) static void
does_not_hold(const char *condition, const char *file, int line, const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "%s:%d: does not hold: %s\n    ", file, line, condition);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	abort();
}

#define hold(condition, ...)                                            \
	do                                                                  \
	{                                                                   \
		if (!(condition))                                               \
			does_not_hold(#condition, __FILE__, __LINE__, __VA_ARGS__); \
	} while (0)

FUZZ_UNUSED static void *
allocate(size_t size)
{
	void *memory = malloc(size > 0 ? size : 1);

	if (memory == NULL)
		abort();
	return memory;
}

/* Memory of just this size, also of none, so that a byte too far is noticed. */
FUZZ_UNUSED static char *
exact(size_t size)
{
	/* NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI): libc and sanitizer know what 0 bytes are */
	return malloc(size);
}

FUZZ_UNUSED static char *
exact_copy(const void *data, size_t size)
{
	char *copy = exact(size);

	if (copy != NULL && size > 0)
		memcpy(copy, data, size);
	return copy;
}

/* What is the input of the file's content. */
FUZZ_UNUSED static size_t
without_newline(const uint8_t *data, size_t size)
{
	return size > 0 && data[size - 1] == '\n' ? size - 1 : size;
}

/* The same as a string, which ends at the first zero byte. The caller frees it. */
FUZZ_UNUSED static char *
input_string(const uint8_t *data, size_t size)
{
	size_t len = without_newline(data, size);
	const uint8_t *zero = len > 0 ? memchr(data, '\0', len) : NULL;
	char *text;

	if (zero != NULL)
		len = (size_t) (zero - data);
	text = allocate(len + 1);
	if (len > 0)
		memcpy(text, data, len);
	text[len] = '\0';
	return text;
}

/* The format's result as a string of its own. */
__attribute__((format(printf, 1, 2))) FUZZ_UNUSED static char *
print_string(const char *format, ...)
{
	char *text;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		abort();
	va_end(arguments);
	return text;
}

/*---- a text that grows ----*/

typedef struct Out
{
	char *text; /* terminated */
	size_t len;
	size_t size;
} Out;

FUZZ_UNUSED static void
put_bytes(Out *out, const char *bytes, size_t len)
{
	if (out->text == NULL || out->len + len + 1 > out->size)
	{
		out->size = 2 * (out->len + len + 1);
		out->text = realloc(out->text, out->size);
		if (out->text == NULL)
			abort();
	}
	memcpy(out->text + out->len, bytes, len);
	out->len += len;
	out->text[out->len] = '\0';
}

__attribute__((format(printf, 2, 3))) FUZZ_UNUSED static void
put(Out *out, const char *format, ...)
{
	char *text;
	int len;
	va_list arguments;

	va_start(arguments, format);
	len = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (len < 0)
		abort();
	put_bytes(out, text, (size_t) len);
	free(text);
}

#endif /* FUZZ_H */
