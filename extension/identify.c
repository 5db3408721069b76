/*-------------------------------------------------------------------------
 *
 * identify.c
 *	  Which pool a session is counted in if its client names none.
 *
 * identify.h has the grammar.  What is done with a guess is session.c's and registry.c's.
 *
 *-------------------------------------------------------------------------
 */
#include "identify.h"

#include <string.h>
#include <strings.h>

#define BLANKS " \t\n\r\f\v"

static const char *const names[IDENTIFIERS] = { "client", "application_name", "role" };

/* A word of the list. */
typedef struct Word
{
	const char *start;
	size_t length;
	int position; /* from 0 */
	bool last;
} Word;

static Word
read_word(const char **at, int position)
{
	Word word;
	size_t length = strcspn(*at, ",");
	const char *end = *at + length;

	word.start = *at + strspn(*at, BLANKS);
	while (end > word.start && strchr(BLANKS, end[-1]) != NULL)
		end--;
	word.length = word.start < end ? (size_t) (end - word.start) : 0;
	word.position = position;
	word.last = (*at)[length] == '\0';
	*at += length + !word.last;
	return word;
}

static bool
is(const Word *word, const char *what)
{
	return word->length == strlen(what) && strncasecmp(word->start, what, word->length) == 0;
}

static const char *
add(IdentifyList *list, IdentifiedBy by)
{
	for (int i = 0; i < list->n; i++)
		if (list->by[i] == by)
			return "An identifier is given twice.";
	list->by[list->n++] = by;
	return NULL;
}

static const char *
take_word(const Word *word, IdentifyList *list)
{
	if (is(word, "options"))
		return word->position == 0 ? NULL : "\"options\" always comes first.";
	if (is(word, "none"))
		return word->position == 0 && word->last ? NULL : "\"none\" stands alone.";
	for (int by = BY_CLIENT + 1; by < IDENTIFIERS; by++)
		if (is(word, names[by]))
			return add(list, (IdentifiedBy) by);
	return word->length == 0 ? "An identifier is missing." : "An identifier is not known.";
}

const char *
identify_parse(const char *text, IdentifyList *list)
{
	const char *at = text;
	const char *error = NULL;
	bool more = text[strspn(text, BLANKS)] != '\0';

	list->n = 0;
	for (int position = 0; more && error == NULL; position++)
	{
		Word word = read_word(&at, position);

		error = take_word(&word, list);
		more = !word.last;
	}
	return error;
}

IdentifiedBy
identify_guess(const IdentifyList *list, const char *application, const char *role,
			   const char **name)
{
	for (int i = 0; i < list->n; i++)
	{
		*name = list->by[i] == BY_ROLE ? role : application;
		if ((*name)[0] != '\0')
			return list->by[i];
	}
	*name = "";
	return BY_CLIENT;
}

const char *
identify_name(IdentifiedBy by)
{
	return names[by];
}
