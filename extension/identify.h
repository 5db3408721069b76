/*-------------------------------------------------------------------------
 *
 * identify.h
 *	  Which pool a session is counted in if its client names none: the list in
 *	  pgpool_monitor.identify, and the choice of the name.
 *
 * Pure: knows neither PostgreSQL nor the registry, allocates nothing.
 *
 *	list	:= [ word { ',' word } ]
 *	word	:= 'options' | 'application_name' | 'role' | 'none'
 *
 * Words are of either case, may have white space around them, and come once.  "options" is
 * what the client says by the protocol; that always comes first, so that the word may only
 * stand first, and is the same as its absence.  "none" stands alone, and is the same as an
 * empty list.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGPM_IDENTIFY_H
#define PGPM_IDENTIFY_H

#include <stdbool.h>
#include <stddef.h>

/* By what a session's pool was identified.  All but the first are guesses. */
typedef enum IdentifiedBy
{
	BY_CLIENT, /* the client named it */
	BY_APPLICATION_NAME,
	BY_ROLE,
	IDENTIFIERS
} IdentifiedBy;

/* Guesses to be made, in this order. */
typedef struct IdentifyList
{
	int n;
	IdentifiedBy by[IDENTIFIERS];
} IdentifyList;

/* NULL, and *list filled; or what is wrong, a sentence in ASCII, and *list is undefined. */
extern const char *identify_parse(const char *text, IdentifyList *list);

/*
 * The first guess that yields a name, with the name, or BY_CLIENT: there is
 * none.  Names are taken as they are.
 */
extern IdentifiedBy identify_guess(const IdentifyList *list, const char *application,
								   const char *role, const char **name);

/* As views show it. */
extern const char *identify_name(IdentifiedBy by);

#endif /* PGPM_IDENTIFY_H */
