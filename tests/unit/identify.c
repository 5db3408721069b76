/*-------------------------------------------------------------------------
 *
 * identify.c
 *	  pgpool_monitor.identify: which lists are accepted, and which name a session gets.
 *
 * sources: extension/identify.c
 *
 *-------------------------------------------------------------------------
 */
#include "identify.h"

#include "tap.h"

/* The list as views name its members, or the error. */
static const char *
parse(const char *text)
{
	static char shown[200];
	char *copy = strdup(text); /* so that AddressSanitizer sees a byte too many */
	IdentifyList list;
	const char *error;

	memset(&list, 0x5A, sizeof(list));
	error = identify_parse(copy, &list);
	free(copy);
	if (error != NULL)
		return error;
	shown[0] = '\0';
	for (int i = 0; i < list.n; i++)
	{
		strcat(shown, i > 0 ? "," : "");
		strcat(shown, identify_name(list.by[i]));
	}
	return shown;
}

static void
test_lists(void)
{
	is_str(parse("options, application_name"), "application_name", "the default");
	is_str(parse("application_name"), "application_name", "options need not be said");
	is_str(parse("options,role,application_name"), "role,application_name", "the order is kept");
	is_str(parse(" \tOPTIONS ,\nApplication_Name , rOLE "), "application_name,role",
		   "white space and case do not matter");
	is_str(parse("options"), "", "options alone guess nothing");
	is_str(parse("none"), "", "neither does none");
	is_str(parse(""), "", "nor an empty list");
	is_str(parse("  "), "", "nor a blank one");
}

static void
test_refused(void)
{
	static const char *const unknown[] = { "pool",		"application_nam", "application_names",
										   "role role", "options;role",	   "*",
										   "\xc3\xa4",	"\"role\"",		   "application name",
										   "client",	"none role",	   "role, user" };
	static const char *const missing[] = { ",", "role,", ",role", "role,,application_name", " , " };

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		is_str(parse(unknown[i]), "An identifier is not known.", "refused: %s", unknown[i]);
	for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++)
		is_str(parse(missing[i]), "An identifier is missing.", "refused: \"%s\"", missing[i]);
	is_str(parse("role, role"), "An identifier is given twice.", "refused: the same twice");
	is_str(parse("role, options"), "\"options\" always comes first.", "refused: options last");
	is_str(parse("options, options"), "\"options\" always comes first.", "refused: options twice");
	is_str(parse("none, role"), "\"none\" stands alone.", "refused: none and another");
	is_str(parse("role, none"), "\"none\" stands alone.", "refused: another and none");
}

/* "by:name" of what is guessed. */
static const char *
guess(const char *text, const char *application, const char *role)
{
	static char shown[200];
	IdentifyList list;
	const char *name = NULL;
	IdentifiedBy by;

	identify_parse(text, &list);
	by = identify_guess(&list, application, role, &name);
	snprintf(shown, sizeof(shown), "%s:%s", identify_name(by), name);
	return shown;
}

static void
test_guesses(void)
{
	is_str(guess("options, application_name", "django", "app"), "application_name:django",
		   "an application's name");
	is_str(guess("options, application_name", "", "app"), "client:", "an empty one is none");
	is_str(guess("application_name, role", "", "app"), "role:app", "then the next one counts");
	is_str(guess("application_name, role", "django", "app"), "application_name:django",
		   "but only then");
	is_str(guess("role, application_name", "django", "app"), "role:app", "the first one that has");
	is_str(guess("", "django", "app"), "client:", "no list, no guess");
	is_str(guess("application_name", " \x01 42 %n", "app"), "application_name: \x01 42 %n",
		   "names are taken as they are");
}

int
main(void)
{
	test_lists();
	test_refused();
	test_guesses();
	return done_testing();
}
