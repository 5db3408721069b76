/*-------------------------------------------------------------------------
 *
 * events.c
 *	  The clock, the queue of events, random numbers.
 *
 * The queue is a binary heap by (time, order of scheduling), so that a run is the same every time.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

int64 sim_now;

static Event *heap;
static int nevents;
static int heap_size;
static uint64 last_order;
static uint64 random_state;

void
events_init(uint64 seed)
{
	random_state = seed * UINT64_C(0xD1342543DE82EF95) + 1;
	sim_now = 1000 * SECOND; /* a server has been up for a while */
}

/* splitmix64 (Steele, Lea, Flood, OOPSLA 2014) */
uint64
random_bits(void)
{
	uint64 bits = random_state += UINT64_C(0x9E3779B97F4A7C15);

	bits = (bits ^ (bits >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	bits = (bits ^ (bits >> 27)) * UINT64_C(0x94D049BB133111EB);
	return bits ^ (bits >> 31);
}

int
random_between(int least, int most)
{
	return least + (int) (random_bits() % (uint64) (most - least + 1));
}

bool
chance(double probability)
{
	return (double) (random_bits() >> 11) < probability * 9007199254740992.0;
}

int64
network_delay(void)
{
	if (chance(0.002))
		return random_between(50, 400) * MSEC;
	return random_between(150, 1500);
}

static bool
before(const Event *a, const Event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void
push(const Event *event)
{
	int i = nevents++;

	if (nevents > heap_size)
	{
		heap_size = Max(1024, 2 * heap_size);
		heap = realloc(heap, sizeof(Event) * (size_t) heap_size);
		if (heap == NULL)
			abort();
	}
	while (i > 0 && before(event, &heap[(i - 1) / 2]))
	{
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = *event;
}

static Event
pop(void)
{
	Event first = heap[0];
	Event moving = heap[--nevents];
	int i = 0;
	int child;

	while ((child = 2 * i + 1) < nevents)
	{
		if (child + 1 < nevents && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], &moving))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moving;
	return first;
}

void
schedule(int64 delay, const Event *event)
{
	Event copy = *event;

	copy.at = sim_now + Max(delay, 0);
	copy.order = ++last_order;
	push(&copy);
}

void
schedule_action(int64 delay, Action action, int argument)
{
	schedule(delay, &(Event){ .action = action, .serial = argument });
}

void
run_until(int64 end)
{
	while (nevents > 0 && heap[0].at <= end)
	{
		Event event = pop();

		sim_now = event.at;
		event.action(&event);
		result.events++;
	}
	sim_now = end;
}
