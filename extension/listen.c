/*-------------------------------------------------------------------------
 *
 * listen.c
 *	  Which sessions listen for notifications.
 *
 * A connection that listens is lent for as long as its program runs, and its backend is idle
 * all the time: from both sides it looks like a leak.  The server keeps the channels
 * of a session to itself, so the commands are watched.
 *
 * What is noted is that a session has run LISTEN, and neither UNLISTEN * nor
 * DISCARD ALL since.  A LISTEN that is rolled back counts too, and so does a
 * session that has left each of its channels by name: a leak of such a one is overlooked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "nodes/parsenodes.h"
#include "tcop/utility.h"

#include "pgpool_monitor.h"

static ProcessUtility_hook_type prev_utility_hook = NULL;

static void
note(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_ListenStmt:
			session_note_listening(true);
			break;
		case T_UnlistenStmt:
			if (((const UnlistenStmt *) statement)->conditionname == NULL)
				session_note_listening(false);
			break;
		case T_DiscardStmt:
			if (((const DiscardStmt *) statement)->target == DISCARD_ALL)
				session_note_listening(false);
			break;
		default:
			break;
	}
}

static void
watch_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			  DestReceiver *dest, QueryCompletion *completion)
{
	/* the tree may be gone afterwards: COMMIT frees much */
	NodeTag tag = nodeTag(planned->utilityStmt);

	if (tag == T_ListenStmt || tag == T_UnlistenStmt || tag == T_DiscardStmt)
		note(planned->utilityStmt);
	if (prev_utility_hook)
		prev_utility_hook(planned, query, read_only_tree, context, params, environment, dest,
						  completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context, params, environment, dest,
								completion);
}

void
listen_install_hooks(void)
{
	prev_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = watch_utility;
}
