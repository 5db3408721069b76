/*-------------------------------------------------------------------------
 *
 * duration.h
 *	  Durations as people write them in postgresql.conf.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PQP_DURATION_H
#define PQP_DURATION_H

#include <stdbool.h>
#include <stdint.h>

#define PQP_DURATION_MAX_MS INT32_MAX /* 24.8 days, as for a server's setting */

/* For messages. */
#define PQP_DURATION_UNITS "us, ms, s, min, h, d"

/*
 * Read "30s", "1.5 min", "250" (milliseconds), "-1".  Blanks are allowed
 * around the number and the unit.  Rounded to whole milliseconds, but what is
 * more than nothing stays more than nothing: 0 has a meaning of its own.
 * False, and *ms is as it was, if the text is anything else or the duration is not
 * within -PQP_DURATION_MAX_MS .. PQP_DURATION_MAX_MS.  Knows no locale.
 */
extern bool pqp_duration_parse(const char *text, int64_t *ms);

#endif /* PQP_DURATION_H */
