/*-------------------------------------------------------------------------
 *
 * pool.pml
 *	  The protocol of waitq.h, for Spin: several callers of a pool, for ever, and
 *	  that whoever waits is served.
 *
 * The other half of the proof: waitq.cpp runs the real source, with the memory
 * orders, for a few acquires; this is written by hand, knows no memory orders
 * (each step is seen by all at once), and looks at all states that callers who
 * go on for ever can come to.
 *
 * A step is what is atomic in the source: one operation on an item's word, on
 * the gate, on the lock.  What happens with the lock held and is seen by nobody
 * without it is one step with its neighbour.  The list is a set (its order
 * decides which idle connection is lent, and nothing else).  The lock is fair.
 * The futex is `told` itself: that part is waitq.cpp's.
 *
 *	CALLERS, ITEMS		how many
 *	LATE				bits: callers whose deadline may pass
 *	REPORTS				bits: callers who may give back when a report is due: the
 *						connection is put into the list and borrowed from it at once
 *	ONCE				each acquires once, and ends: for deadlocks and the end
 *
 *	BEHAVIOUR			only what a caller would notice is checked, not (1) to (3)
 *	LIVENESS			with the LTL formula at the end
 *
 * What is wrong on purpose: NO_MARK NO_RESCAN NO_RECHECK LEND_NO_CALL POP_STAYS
 * TELL_TWICE NO_GATE IGNORE_CALL
 *
 *-------------------------------------------------------------------------
 */
#ifndef CALLERS
#define CALLERS 3
#endif
#ifndef ITEMS
#define ITEMS 1
#endif
#ifndef LATE
#define LATE 0
#endif
#ifndef REPORTS
#define REPORTS 0
#endif

#define NONE 255
#define BIT(p) (1 << (p))

/* Item.word; the serial is the process, from 1. */
#define HELD 0
#define FREE 1
#define CALL 2
#define MINE(p) (((p) + 1) << 3)
#define HOLDER(word) ((word) >> 3)

#ifdef NO_MARK
#define MARKED(old) ((old) & FREE -> (old) | CALL : (old))
#else
#define MARKED(old) ((old) | CALL)
#endif
#ifdef LEND_NO_CALL
#define LENT(p) MINE(p)
#else
#define LENT(p) (MINE(p) | CALL)
#endif

byte word[ITEMS] = FREE;
bool listed[ITEMS] = true; /* lock */
bool gate;				   /* PQP_GATE_WAITERS; written with the lock */

chan lock = [CALLERS] of { byte }; /* the first one has it */

/* The waiters; lock, but told. */
byte queue[CALLERS];
byte length;
bool queued[CALLERS];
byte given[CALLERS]; /* Waiter.item */
bool told[CALLERS];

/* What the rules say. */
byte owner[ITEMS] = NONE;
byte waiting;		  /* bits: who is in the queue */
byte before[CALLERS]; /* bits: who was in it before this one came, and still is */
byte knew[CALLERS];	  /* bits: who was in it when this one began, and still is */
bool frame[CALLERS];  /* his Waiter is there */
bool served[CALLERS]; /* has an item */

hidden byte n, k; /* for atomic steps */

inline take_lock()
{
	lock!me;
	lock?[eval(me)]
}

/* (1) to (3), and the lock. */
inline drop_lock()
{
	atomic
	{
		n = 0;
#ifndef BEHAVIOUR
		do
		:: n < ITEMS ->
			assert(listed[n] || !(word[n] & FREE)); /* (1) */
			assert(listed[n] || HOLDER(word[n]) == 0 || (word[n] & CALL)); /* (2) */
			assert(waiting == 0 || !(word[n] & FREE)); /* (3) */
			assert(waiting == 0 || HOLDER(word[n]) == 0 || (word[n] & CALL));
			n++
		:: else -> break
		od;
		n = 0;
#endif
		lock?eval(me)
	}
}

/* pqp_waitq_claim: found is HELD and the caller's, or NONE */
inline claim()
{
	found = NONE;
	i = 0;
	do
	:: i < ITEMS && listed[i] && found == NONE ->
		atomic
		{
			/* one OR, and what it means */
			old = word[i];
			word[i] = MARKED(old);
			if
			:: old & FREE -> found = i
			:: else -> skip
			fi;
			listed[i] = false;
			i++
		}
	:: i < ITEMS && !listed[i] && found == NONE -> i++
	:: else -> break
	od;
	atomic
	{
		i = 0;
		old = 0;
		if
		:: found != NONE ->
			assert(owner[found] == NONE);
			owner[found] = me;
			word[found] = HELD
		:: else -> skip
		fi
	}
}

/* Out of the queue, from place n. */
inline take_out()
{
	waiting = waiting & ~BIT(queue[n]);
	k = 0;
	do
	:: k < CALLERS ->
		before[k] = before[k] & waiting;
		knew[k] = knew[k] & waiting;
		k++
	:: else -> break
	od;
	k = 0;
#ifndef POP_STAYS
	queued[queue[n]] = false;
	do
	:: n + 1 < length -> queue[n] = queue[n + 1]; n++
	:: else -> break
	od;
	length--;
	queue[length] = 0;
#endif
	n = 0;
	gate = length > 0
}

/* grant: to the first waiter */
inline grant(x)
{
	atomic
	{
		w = queue[0];
		assert(frame[w]);
		assert(waiting & BIT(w));
		assert(before[w] == 0); /* first come, first served */
		n = 0;
		take_out();
		listed[x] = false;
		owner[x] = w;
		word[x] = LENT(w);
		given[w] = x;
#ifdef TELL_TWICE
		told[w] = true;
#endif
		wake = wake | BIT(w);
		found = NONE;
		w = 0
	}
}

/* serve */
inline pump()
{
	do
	:: length > 0 ->
		claim();
		if
		:: found != NONE -> grant(found)
		:: else -> break
		fi
	:: else -> break
	od
}

inline put_back(x, due)
{
	if
	:: length > 0 && !due -> grant(x)
	:: else ->
		atomic
		{
			assert(owner[x] == me);
			owner[x] = NONE;
			listed[x] = true;
			word[x] = FREE
		};
		if
		:: due ->
			/* pqp_report_begin, of this one: others are claimed in the same way */
			atomic
			{
				old = word[x];
				word[x] = old | CALL;
				if
				:: old & FREE ->
					assert(owner[x] == NONE);
					owner[x] = me;
					word[x] = HELD;
					listed[x] = false;
					reports = true
				:: else -> skip
				fi;
				old = 0
			}
		:: else -> skip
		fi
	fi
}

/* Without the lock. */
inline tell()
{
	do
	:: wake != 0 ->
		atomic
		{
			w = 0;
			do
			:: wake & BIT(w) -> break
			:: else -> w++
			od;
			assert(frame[w]); /* or it touches what is not there any more */
			wake = wake & ~BIT(w);
			told[w] = true;
			w = 0
		}
	:: else -> break
	od
}

proctype Caller(byte me)
{
	byte got, found, i, old, w, wake;
	bool late, due, reports;

again:
	atomic
	{
		got = NONE;
		knew[me] = waiting;
		late = false
	};

	/* pqp_acquire, fast: any item may be the last one it had */
	if
#ifdef NO_GATE
	:: true ->
#else
	:: !gate ->
#endif
		i = 0;
		do
		:: i + 1 < ITEMS -> i++
		:: break
		od;
		atomic
		{
			if
			:: word[i] == FREE ->
				word[i] = MINE(me);
				assert(owner[i] == NONE);
				owner[i] = me;
				got = i;
				assert(knew[me] == 0) /* overtakes nobody who was there before */
			:: else -> skip
			fi;
			i = 0
		}
#ifndef NO_GATE
	:: gate -> skip
#endif
	fi;
	if
	:: got != NONE -> goto use
	:: else -> skip
	fi;

	/* take_turn */
	take_lock();
	found = NONE;
	if
#ifndef NO_RESCAN
	:: length == 0 -> claim()
#endif
	:: else -> skip
	fi;
	if
	:: found != NONE ->
		atomic
		{
			word[found] = LENT(me);
			got = found
		};
		drop_lock();
		goto use
	:: else -> skip
	fi;
	atomic
	{
		frame[me] = true;
		told[me] = false;
		given[me] = NONE;
		before[me] = waiting;
		queue[length] = me;
		length++;
		queued[me] = true;
		waiting = waiting | BIT(me);
		gate = true
	};
#ifndef NO_RESCAN
	pump();
#endif
	drop_lock();
	tell();

	/* sleep_in_queue */
asleep:
	if
	:: told[me] ->
		atomic
		{
			got = given[me];
			given[me] = NONE;
			told[me] = false;
			frame[me] = false
		}
	:: (LATE & BIT(me)) && !late ->
		take_lock();
		if
		:: queued[me] ->
			atomic
			{
				n = 0;
				do
				:: queue[n] != me -> n++
				:: else -> break
				od;
				take_out();
				frame[me] = false
			};
			drop_lock()
		:: else ->
			drop_lock();
#ifdef NO_RECHECK
			frame[me] = false
#else
			late = true;
			goto asleep
#endif
		fi
	fi;

use:
	skip;
	if
	:: got == NONE -> goto done
	:: else -> skip
	fi;
	atomic
	{
		/* nothing of this is looked at again */
		found = NONE;
		knew[me] = 0;
		late = false;
		before[me] = 0;
		assert(owner[got] == me);
		served[me] = true
	};

	/* release: fast if nobody has called, and if it can be */
	if
	:: atomic
		{
#ifdef IGNORE_CALL
			(word[got] & ~CALL) == MINE(me) ->
#else
			word[got] == MINE(me) ->
#endif
			assert(owner[got] == me);
			served[me] = false;
			owner[got] = NONE;
			word[got] = FREE;
			got = NONE
		};
		goto done
	:: skip
	fi;

	/* pqp_item_yield, finish_loan */
	atomic
	{
		assert(HOLDER(word[got]) == me + 1);
		assert(owner[got] == me);
		served[me] = false;
		word[got] = HELD
	};
	if
	:: (REPORTS & BIT(me)) -> due = true
	:: due = false
	fi;
	take_lock();
give:
	put_back(got, due);
	due = false;
	if
	:: length > 0 -> pump()
	:: else -> skip
	fi;
	drop_lock();
	tell();
	if
	:: reports ->
		reports = false;
		take_lock();
		goto give
	:: else -> got = NONE
	fi;

done:
	atomic
	{
		got = NONE;
		found = NONE;
		i = 0;
		old = 0;
		w = 0;
		knew[me] = 0;
		late = false;
		before[me] = 0
	};
#ifndef ONCE
	goto again
#endif
}

init
{
	atomic
	{
		n = 0;
		do
		:: n < CALLERS -> run Caller(n); n++
		:: else -> break
		od;
		n = 0
	};
#ifdef ONCE
	/* all have ended: nothing is lost */
	_nr_pr == 1;
	do
	:: n < ITEMS ->
		assert((word[n] & FREE) && listed[n] && owner[n] == NONE);
		n++
	:: else -> break
	od;
	assert(waiting == 0 && !gate)
#endif
}

/* Whoever waits without a deadline is served, if each step that can be made for ever is made once. */
#ifdef LIVENESS
ltl everybody_is_served { [] (queued[0] -> <> served[0]) }
#endif
