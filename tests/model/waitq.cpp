/*-------------------------------------------------------------------------
 *
 * waitq.cpp
 *	  Which threads do what in the model, and the program that runs it.
 *
 *	waitq [-m MUTATION] [-b] [-s] [-t] [SCENARIO...]
 *	waitq -l
 *
 * -m: with this mutation of pool.hpp (-l lists them); -b: check behaviour only,
 * not the invariants that it rests upon; -s: stop at the first failure; -t: tell
 * the execution that fails.  Ends with 0 if nothing was found.
 *
 *-------------------------------------------------------------------------
 */
#include "pool.hpp"

#include <cstdio>
#include <ctime>
#include <string>

/*
 * What a thread does, a letter each:
 *	a	acquire, wait for as long as it takes			r	release
 *	t	acquire, with a deadline						s	release, the slow way
 *	n	acquire, do not wait							d	discard
 *	x	acquire, and find the first one dead			K	cancel what runs on the first connection
 *	h	leave the loan for another thread				C	close the pool
 *	g	take it from there, if it is there; release		B	close it, with a last report
 *	G	the same, but adopt it first					D	drain
 *	H	leave a copy of the PGconn, and keep the loan	P	pause		U	resume
 *	Y	release that loan, if nobody has				R	a report is due
 *	y	the same, by the copy							b	acquire, bound to the thread
 */
struct Scenario
{
	const char *name;
	int items;
	const char *programs[THREADS];
	Search search;
	rl::iteration_t most; /* executions; SEARCH_BOUND: in hundreds, and so many preemptions */
};

static const Scenario scenarios[] = {
	{ "two", 1, { "ar", "ar", "" }, SEARCH_FULL, 30000000 },
	{ "two-slow", 1, { "as", "ar", "" }, SEARCH_FULL, 30000000 },
	{ "two-slow-slow", 1, { "as", "as", "" }, SEARCH_FULL, 30000000 },
	{ "two-timed", 1, { "tr", "tr", "" }, SEARCH_FULL, 30000000 },
	{ "two-timed-slow", 1, { "ts", "tr", "" }, SEARCH_FULL, 30000000 },
	{ "two-rounds", 1, { "arar", "ar", "" }, SEARCH_FULL, 30000000 },
	{ "two-rounds-slow", 1, { "asar", "ts", "" }, SEARCH_FULL, 3000000 },
	{ "two-rounds-2", 2, { "asar", "trts", "" }, SEARCH_FULL, 3000000 },
	{ "dead", 1, { "xr", "ar", "" }, SEARCH_FULL, 3000000 },
	{ "discard", 1, { "ad", "ar", "" }, SEARCH_FULL, 3000000 },
	{ "close", 1, { "ar", "as", "C" }, SEARCH_FULL, 3000000 },
	{ "close-report", 1, { "ar", "as", "B" }, SEARCH_FULL, 3000000 },
	{ "close-report-2", 2, { "as", "ar", "B" }, SEARCH_FULL, 3000000 },
	{ "drain", 1, { "ar", "as", "D" }, SEARCH_FULL, 3000000 },
	{ "pause", 1, { "ar", "ar", "PnrU" }, SEARCH_FULL, 3000000 },
	{ "report", 1, { "ar", "as", "R" }, SEARCH_FULL, 3000000 },
	{ "cancel", 1, { "ar", "ar", "K" }, SEARCH_FULL, 3000000 },
	{ "handover", 1, { "ahg", "g", "ar" }, SEARCH_FULL, 3000000 },
	{ "adopt", 1, { "ahg", "G", "ar" }, SEARCH_FULL, 3000000 },
	{ "twice", 1, { "aHY", "y", "br" }, SEARCH_FULL, 3000000 },
	{ "report-order", 1, { "as", "ar", "Rnr" }, SEARCH_FULL, 400000 },
	{ "three", 1, { "ar", "ar", "ar" }, SEARCH_FULL, 3000000 },
	{ "three-2", 2, { "ar", "ar", "ar" }, SEARCH_FULL, 3000000 },
	{ "three-slow-2", 2, { "as", "ar", "tr" }, SEARCH_FULL, 3000000 },
	{ "three-timed", 1, { "ar", "tr", "ar" }, SEARCH_BOUND, 3000004 },
	{ "three-rounds-2", 2, { "arar", "tsar", "arts" }, SEARCH_BOUND, 3000003 },
	{ "three-rounds-drawn", 2, { "arar", "tsar", "arts" }, SEARCH_RANDOM, 300000 },
};

static const Scenario *scenario;

class Test : public rl::test_suite<Test, THREADS>
{
	Pool pool;
	int releases; /* of a loan that two have */

	void
	release(Slot *slot, bool slow, bool keep)
	{
		if (!slot)
			return;
		pool.use(slot);
		if (slow || !pool.release_fast(slot))
			RL_ASSERT(pool.release_slowly(slot, keep));
	}

	void
	leave(bool copy)
	{
		Slot *&slot = pool.held[me()];

		if (slot)
			pool.box.store((uintptr_t) (slot - pool.slots) + 1, rl::mo_release, $);
		if (!copy)
			slot = nullptr;
	}

	void
	fetch(bool adopt)
	{
		uintptr_t number = pool.box.exchange(0, rl::mo_acquire, $);
		Slot *slot = number ? &pool.slots[number - 1] : nullptr;

		if (!slot)
			return;
		if (adopt)
		{
			pool.adopt(slot);
			release(slot, false, true);
		}
		else
			RL_ASSERT(pool.release_slowly(slot, true));
	}

	void
	release_copy()
	{
		uintptr_t number = pool.box.load(rl::mo_acquire, $);

		if (number)
			releases += pool.release_slowly(&pool.slots[number - 1], true);
	}

	void
	act(char letter)
	{
		Slot *&slot = pool.held[me()];

		switch (letter)
		{
			case 'a':
				slot = pool.acquire(FOREVER, false, false);
				break;
			case 'b':
				slot = pool.acquire(FOREVER, false, true);
				break;
			case 't':
				slot = pool.acquire(FOR_A_WHILE, false, false);
				break;
			case 'n':
				slot = pool.acquire(AT_ONCE, false, false);
				break;
			case 'x':
				slot = pool.acquire(FOREVER, true, false);
				break;
			case 'r':
			case 's':
			case 'd':
				release(slot, letter != 'r', letter != 'd');
				slot = nullptr;
				break;
			case 'h':
			case 'H':
				leave(letter == 'H');
				break;
			case 'g':
			case 'G':
				fetch(letter == 'G');
				break;
			case 'y':
				release_copy();
				break;
			case 'Y': /* he who left the copy: it is his loan, or was */
				releases += pool.release_slowly(slot, true);
				slot = nullptr;
				break;
			case 'K':
				pool.cancel(&pool.slots[0]);
				break;
			case 'C':
			case 'B':
				pool.close(letter == 'B');
				break;
			case 'D':
				pool.drain();
				break;
			case 'P':
			case 'U':
				pool.set_paused(letter == 'P');
				break;
			case 'R':
				pool.tick();
				break;
			default:
				abort();
		}
	}

  public:
	void
	before()
	{
		releases = 0;
		pool.open(scenario->items);
	}

	void
	thread(unsigned index)
	{
		for (const char *letter = scenario->programs[index]; *letter; letter++)
			act(*letter);
	}

	/* At every step. */
	void
	invariant()
	{
		if (!pool.lock.is_held())
			pool.check();
	}

	void
	after()
	{
		pool.check_end();
		for (const char *program : scenario->programs)
			if (strchr(program, 'H'))
				RL_ASSERT(releases == 1);
	}
};

static bool
run(const Scenario *which, bool tell)
{
	static const char *const searches[] = { "full", "bound", "random" };
	rl::iteration_t executions;
	struct timespec start, end;
	bool good;

	scenario = which;
	search = which->search;
	preemptions_allowed = search == SEARCH_BOUND ? (unsigned) (which->most % 100) : 0;
	executions_allowed = search == SEARCH_BOUND ? which->most / 100 * 100 : which->most;
	clock_gettime(CLOCK_MONOTONIC, &start);
	good = explore<Test>(&executions, tell);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf(
		"%-18s %d item%s %-24s %s%.0d: %9llu executions", which->name, which->items,
		which->items == 1 ? " " : "s",
		(std::string(which->programs[0]) + " | " + which->programs[1] + " | " + which->programs[2])
			.c_str(),
		searches[search], (int) preemptions_allowed, (unsigned long long) executions);
	if (search == SEARCH_FULL)
		printf(", %llu of them cut short", (unsigned long long) executions_cut);
	printf("%s, %.1f s: %s\n", good && search != SEARCH_RANDOM && !exhausted ? ", NOT ALL" : "",
		   (double) (end.tv_sec - start.tv_sec) + (double) (end.tv_nsec - start.tv_nsec) / 1e9,
		   good ? "ok" : "FAILED");
	fflush(stdout);
	return good;
}

int
main(int argc, char **argv)
{
	bool tell = false, stop = false, good = true;
	int i = 1;

	for (; i < argc && argv[i][0] == '-'; i++)
		if (!strcmp(argv[i], "-t"))
			tell = true;
		else if (!strcmp(argv[i], "-s"))
			stop = true;
		else if (!strcmp(argv[i], "-b"))
			invariants = false;
		else if (!strcmp(argv[i], "-m") && i + 1 < argc)
		{
			int m = 0;

			i++;
			while (m < MUTATIONS && strcmp(argv[i], mutation_names[m]) != 0)
				m++;
			if (m == MUTATIONS)
				return fprintf(stderr, "waitq: no such mutation: %s\n", argv[i]), 2;
			mutation = (Mutation) m;
		}
		else if (!strcmp(argv[i], "-l"))
		{
			for (int m = 1; m < MUTATIONS; m++)
				puts(mutation_names[m]);
			return 0;
		}
		else
			return fprintf(stderr,
						   "usage: waitq [-m MUTATION] [-b] [-s] [-t] [-l] [SCENARIO...]\n"),
				   2;
	for (const Scenario &which : scenarios)
	{
		bool wanted = i == argc;

		for (int k = i; k < argc; k++)
			wanted |= !strcmp(argv[k], which.name);
		if (wanted && !run(&which, tell))
		{
			good = false;
			if (stop)
				break;
		}
	}
	return good ? 0 : 1;
}
