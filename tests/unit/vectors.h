/*-------------------------------------------------------------------------
 *
 * vectors.h
 *	  Texts of PROTOCOL.md and what they mean, for the tests of both halves.
 *
 * Frozen with the protocol: lines are added, never changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef VECTORS_H
#define VECTORS_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

/* Section 2: what a client puts into the connection parameter "options". */
typedef struct IdentityVector
{
	const char *user_options;
	const char *pool;
	const char *id;
	bool follow;
	bool report;
	bool knock;
	const char *options; /* NULL: no such identity */
} IdentityVector;

static const IdentityVector identity_vectors[] = {
	{ NULL, "orders", "0123abcd", true, true, false,
	  "-c pgpool_monitor.pool=orders -c pgpool_monitor.instance=0123abcd;follow=1;report=1" },
	{ "", "orders", "A-Z_a.z:9", false, false, false,
	  "-c pgpool_monitor.pool=orders -c pgpool_monitor.instance=A-Z_a.z:9" },
	{ "-c work_mem=4MB", "o", "i", true, true, true,
	  "-c work_mem=4MB -c pgpool_monitor.pool=o "
	  "-c pgpool_monitor.instance=i;follow=1;report=1;kind=knock" },
	{ "-c a.b=c\\ d", "two words", "i", false, true, false,
	  "-c a.b=c\\ d -c pgpool_monitor.pool=two\\ words -c pgpool_monitor.instance=i;report=1" },
	{ "-c a.b=c\\", "back\\slash", "i", false, false, false,
	  "-c a.b=c -c pgpool_monitor.pool=back\\\\slash -c pgpool_monitor.instance=i" },
	{ "-c a.b=c\\\\", "'; DROP TABLE x; --", "i", false, false, false,
	  "-c a.b=c\\\\ -c pgpool_monitor.pool=';\\ DROP\\ TABLE\\ x;\\ -- "
	  "-c pgpool_monitor.instance=i" },
	{ NULL, "a -c b=c\n\t", "i", false, false, false,
	  "-c pgpool_monitor.pool=a\\ -c\\ b=c\\\n\\\t -c pgpool_monitor.instance=i" },
	{ NULL, "caf\xc3\xa9\xff", "i", false, false, false,
	  "-c pgpool_monitor.pool=caf\\\xc3\\\xa9\\\xff -c pgpool_monitor.instance=i" },
	{ NULL, "123456789012345678901234567890123456789012345678901234567890123", "i", false, false,
	  false,
	  "-c pgpool_monitor.pool=123456789012345678901234567890123456789012345678901234567890123 "
	  "-c pgpool_monitor.instance=i" },
	{ NULL, "1234567890123456789012345678901234567890123456789012345678901234", "i", false, false,
	  false, NULL },
	{ NULL, "", "i", false, false, false, NULL },
	{ NULL, "o", "", false, false, false, NULL },
	{ NULL, "o", "i;follow=1", false, false, false, NULL },
	{ NULL, "o", "i j", false, false, false, NULL },
	{ NULL, "o", "i\xc3\xa9", false, false, false, NULL },
	{ NULL, "o", "1234567890123456789012345678901234567890123456789012345678901234", false, false,
	  false, NULL }
};

/* Section 3: what the server says to the instance "me", which was told nothing before. */
typedef struct AllotmentVector
{
	const char *text;
	bool taken;
	uint64_t epoch;
	const char *inc;
	int limit;
	const char *state;
	int64_t lease_ms;
	int64_t interval_ms;
	int64_t retry_ms;
} AllotmentVector;

static const AllotmentVector allotment_vectors[] = {
	{ "id=me;inc=7f3a;epoch=1;limit=20;state=ok;lease=30;interval=10;retry=5", true, 1, "7f3a", 20,
	  "ok", 30000, 10000, 5000 },
	{ "retry=0.25;state=queued;limit=0;id=me;lease=1.5;epoch=18446744073709551615;inc=x;"
	  "interval=0.125",
	  true, UINT64_MAX, "x", 0, "queued", 1500, 125, 250 },
	{ "id=me;inc=1;epoch=0;limit=-1;state=off", true, 0, "1", -1, "off", 30000, 10000, 5000 },
	{ "id=me;inc=1;epoch=5;limit=2147483647;state=paused;lease=0;interval=0.001;retry=0", true, 5,
	  "1", 2147483647, "paused", 0, 100, 0 },
	{ "id=me;new=x;inc=1;epoch=5;what;limit=3;;state=ok;id2=you;", true, 5, "1", 3, "ok", 30000,
	  10000, 5000 },
	{ "id=me;inc=a:b/c+d=e;epoch=5;limit=3;state=ok", true, 5, "a:b/c+d=e", 3, "ok", 30000, 10000,
	  5000 },
	/* not ours */
	{ "id=you;inc=1;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=;inc=1;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me2;inc=1;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=m;inc=1;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=ME;inc=1;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	/* a field is missing */
	{ "", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "0", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "inc=1;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3", false, 0, NULL, 0, NULL, 0, 0, 0 },
	/* a field is wrong */
	{ "id=me;inc=1;epoch=5;limit=3;state=", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=okay", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=ok;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;id=you;inc=1;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;limit=4;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1 2;epoch=5;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1234567890123456789012345678901234567890123456789012345678901234;epoch=5;limit=3;"
	  "state=ok",
	  false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=18446744073709551616;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=-1;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch= 1;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=;limit=3;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=-2;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=2147483648;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3x;state=ok", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=ok;lease=", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=ok;lease=1.", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=ok;lease=.5", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=ok;lease=1.0001", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=ok;lease=-1", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=ok;lease=1e3", false, 0, NULL, 0, NULL, 0, 0, 0 },
	{ "id=me;inc=1;epoch=5;limit=3;state=ok;retry=9999999999", false, 0, NULL, 0, NULL, 0, 0, 0 }
};

/* Section 4: texts that a server takes, and some that it counts as rejected. */
typedef struct ReportVector
{
	const char *text;
	bool taken;
	uint64_t seq;
	int demand; /* in use + waiting */
	int size;
} ReportVector;

static const ReportVector report_vectors[] = {
	{ "v=1;seq=1", true, 1, 0, 0 },
	{ "v=1;seq=7;ack=3;max=20;min=2;opening=1;idle=2;in_use=4;resetting=8;closing=16;waiting=32",
	  true, 7, 36, 31 },
	{ "v=1;seq=9223372036854775807;in_use=2147483647;waiting=1", true, INT64_MAX, 2147483647,
	  2147483647 },
	{ "v=1;in_use=5;unknown=x:y,z;seq=2;bye=1", true, 2, 5, 5 },
	{ "v=1;seq=1;wait=0:1,1:2,31:9223372036854775807;hold=5:5", true, 1, 0, 0 },
	{ "v=1;seq=1;loans=4711:301000:140234:src/billing.c%3A214,1:0::", true, 1, 0, 0 },
	{ "v=1;seq=1;found_dead=1;finished=2;errors=11:4,47:1,48:2;closed_by=0:5,15:6,16:7", true, 1, 0,
	  0 },
	{ "", false, 0, 0, 0 },
	{ "seq=1;v=1", false, 0, 0, 0 },
	{ "v=2;seq=1", false, 0, 0, 0 },
	{ "v=1", false, 0, 0, 0 },
	{ "v=1;seq=0", false, 0, 0, 0 },
	{ "v=1;seq=-1", false, 0, 0, 0 },
	{ "v=1;seq=1;seq=2", false, 0, 0, 0 },
	{ "v=1;seq=9223372036854775808", false, 0, 0, 0 },
	{ "v=1;seq=1;in_use=2147483648", false, 0, 0, 0 },
	{ "v=1;seq=1;wait=32:1", false, 0, 0, 0 },
	{ "v=1;seq=1;errors=1:1,1:2", false, 0, 0, 0 },
	{ "v=1;seq=1;closed_by=idle:1", false, 0, 0, 0 },
	{ "v=1;seq=1;loans=1:1:a b:c", false, 0, 0, 0 },
	{ "v=1;seq=1;loans=1:1:a%0:c", false, 0, 0, 0 }
};

#endif /* VECTORS_H */
