/*-------------------------------------------------------------------------
 *
 * explore.hpp
 *	  All executions of a few threads: a scheduler for the model checker Relacy.
 *
 * Relacy runs a test's threads as coroutines, keeps the history of every atomic
 * object by the rules of C++11, lets a load return an older value where these
 * allow it, and finds data races by the happens-before relation.  It does so
 * for one execution after the other; which ones, a scheduler says.  Relacy's own
 * are not used: its full search tries all orders of all steps, which are too
 * many, and makes whoever has slept let others go first, which are too few.
 *
 * Here every step is announced before it is made: which object it is about,
 * whether it writes, whether it has to wait for something.  So
 *
 *	- a blocked thread is one whose next step is not enabled, and a deadlock is
 *	  a state in which no thread has an enabled step;
 *	- of executions that differ only in the order of steps that have nothing to
 *	  do with each other one is enough: sleep sets (Godefroid, Partial-Order
 *	  Methods for the Verification of Concurrent Systems, chapter 5).  A run in
 *	  which nothing new is left is cut short: it goes on without any choice;
 *	- a step that nothing can have to do with before it is made, like an unlock,
 *	  is made at once.
 *
 * Three ways to search:
 *	full		all executions, up to the order of independent steps
 *	bound		all with at most so many preemptions, without sleep sets
 *	random		so many, drawn
 *
 *-------------------------------------------------------------------------
 */
#ifndef EXPLORE_HPP
#define EXPLORE_HPP

#include <relacy/relacy.hpp>
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef assert
#undef errno
#undef memory_order_relaxed
#undef memory_order_consume
#undef memory_order_acquire
#undef memory_order_release
#undef memory_order_acq_rel
#undef memory_order_seq_cst

#define THREADS 3 /* one that has nothing to do costs nothing */

/* What a thread does next. */
struct Step
{
	enum
	{
		START,	 /* nothing that anybody else sees */
		UNKNOWN, /* anything */
		KNOWN
	} kind;
	struct
	{
		const void *object; /* NULL: none */
		bool write;
	} about[2];
	const bool *wait; /* not enabled while this is true; NULL: always enabled */
	bool alone;		  /* nothing that others can do before it has to do with it */
	bool made;
};

static Step next_step[THREADS];

static bool
independent(const Step &a, const Step &b)
{
	if (a.kind == Step::START || b.kind == Step::START)
		return true;
	if (a.kind == Step::UNKNOWN || b.kind == Step::UNKNOWN)
		return false;
	for (const auto &x : a.about)
		for (const auto &y : b.about)
			if (x.object && x.object == y.object && (x.write || y.write))
				return false;
	return true;
}

enum Search
{
	SEARCH_FULL,
	SEARCH_BOUND,
	SEARCH_RANDOM
};

static Search search = SEARCH_FULL;
static unsigned preemptions_allowed;
static rl::iteration_t executions_allowed;

static rl::iteration_t executions_cut; /* short, as nothing new was left */
static bool exhausted;				   /* nothing is left to try */

class Explorer : public rl::scheduler<Explorer, rl::scheduler_thread_info, THREADS>
{
	typedef rl::scheduler<Explorer, rl::scheduler_thread_info, THREADS> Base;

	/* A choice on the way, and which way was taken. */
	struct Node
	{
		unsigned ways, way;
	};

	rl::vector<Node>::type path;
	size_t depth;
	unsigned sleeping; /* bits: tried before at this point, and nothing has touched them since */
	bool cut;
	unsigned preemptions;
	rl::random_generator random;

  public:
	struct task_t
	{
	};

	Explorer(rl::test_params &params, shared_context_t &context, rl::thread_id_t dynamic)
		: Base(params, context, dynamic), depth(0), sleeping(0), cut(false), preemptions(0)
	{
	}

	rl::thread_id_t
	iteration_begin_impl()
	{
		depth = 0;
		sleeping = 0;
		cut = false;
		preemptions = 0;
		random.seed(iter_);
		for (Step &step : next_step)
			step = Step();
		return choose(-1);
	}

	/* On to the next path: the last choice that has another way takes it.  True: there is none. */
	bool
	iteration_end_impl()
	{
		executions_cut += cut;
		if (search == SEARCH_RANDOM)
			return iter_ >= executions_allowed;
		while (!path.empty() && path.back().way + 1 == path.back().ways)
			path.pop_back();
		exhausted = path.empty();
		if (exhausted)
			return true;
		path.back().way++;
		return iter_ >= executions_allowed;
	}

	rl::thread_id_t
	schedule_impl(rl::unpark_reason &reason, unsigned)
	{
		reason = rl::unpark_reason_normal;
		return choose(thread_->index_);
	}

	unsigned
	rand_impl(unsigned limit, rl::sched_type)
	{
		if (limit == 1)
			return 0;
		if (search == SEARCH_RANDOM)
			return random.rand() % limit;
		if (cut)
			return 0;
		if (depth == path.size())
		{
			Node node = { limit, 0 };

			path.push_back(node);
		}
		else if (path[depth].ways != limit)
		{
			std::cerr << "explore: the test is not deterministic\n";
			abort();
		}
		return path[depth++].way;
	}

	rl::iteration_t
	iteration_count_impl()
	{
		return iter_ + 1;
	}

	/* To go the way of a failure once more, with a log. */
	void
	get_state_impl(std::ostream &out)
	{
		out << path.size();
		for (const Node &node : path)
			out << " " << node.ways << " " << node.way;
		out << " ";
	}

	void
	set_state_impl(std::istream &in)
	{
		size_t size = 0;

		in >> size;
		for (Node node; size > 0 && in >> node.ways >> node.way; size--)
			path.push_back(node);
	}

	void
	thread_finished_impl()
	{
	}
	void
	on_thread_block(rl::thread_id_t, bool)
	{
	}
	void
	purge_blocked_threads()
	{
	}

  private:
	bool
	enabled(int thread) const
	{
		return threads_[thread].state_ == rl::thread_state_running &&
			   !(next_step[thread].wait && *next_step[thread].wait);
	}

	int
	choose(int current)
	{
		int ways[THREADS], n = 0, any = -1, chosen;
		unsigned asleep = 0;

		if (current >= 0 && threads_[current].state_ == rl::thread_state_running &&
			next_step[current].made)
		{
			std::cerr << "explore: a step was not announced\n";
			abort();
		}
		for (int thread = 0; thread < THREADS; thread++)
			if (enabled(thread))
			{
				if (any < 0 || thread == current)
					any = thread;
				if (!(sleeping & 1u << thread))
					ways[n++] = thread;
			}
		if (any < 0)
			rl::ctx().fail_test("nobody can go on", rl::test_result_deadlock, $);
		/* one that is alone goes first: there is no other order worth trying */
		for (int thread = 0; thread < THREADS; thread++)
			if (enabled(thread) &&
				(next_step[thread].kind == Step::START || next_step[thread].alone))
			{
				any = ways[0] = thread;
				n = 1;
				break;
			}
		if (n == 0)
			cut = true;
		if (search == SEARCH_BOUND && current >= 0 && enabled(current))
		{
			/* the current one first */
			for (int i = 0; i < n; i++)
				if (ways[i] == current)
					std::swap(ways[i], ways[0]);
			if (preemptions == preemptions_allowed)
				n = 1;
		}
		if (cut)
			chosen = any;
		else
		{
			unsigned way = rand_impl((unsigned) n, rl::sched_type_sched);

			chosen = ways[way];
			if (search == SEARCH_FULL)
			{
				for (unsigned i = 0; i < way; i++)
					sleeping |= 1u << ways[i];
				for (int thread = 0; thread < THREADS; thread++)
					if ((sleeping & 1u << thread) &&
						independent(next_step[thread], next_step[chosen]))
						asleep |= 1u << thread;
			}
			sleeping = asleep;
		}
		preemptions += n > 1 && current >= 0 && chosen != current && enabled(current);
		next_step[chosen].made = true;
		return chosen;
	}
};

/* The thread that runs. */
static int
me()
{
	return (int) rl::ctx().threadx_->index_;
}

/* The next step is about this. */
static Step &
announce(const void *object, bool write)
{
	Step &step = next_step[me()];

	step = Step();
	step.kind = Step::KNOWN;
	step.about[0] = { object, write };
	return step;
}

/* The step that was announced is made by the caller, not by an operation of Relacy's. */
static void
its_turn()
{
	rl::ctx().sched();
}

/*
 * Run a test; true: nothing was found.  Else the execution is made once more, and its steps
 * are written out.
 */
template <class Test>
static bool
explore(rl::iteration_t *executions, bool tell)
{
	rl::ostringstream quiet;
	rl::ostringstream state, unused;
	rl::test_params params;
	bool good;

	executions_cut = 0;
	exhausted = false;
	params.output_stream = tell ? (std::ostream *) &std::cout : &quiet;
	params.progress_stream = &quiet;
	params.search_type =
		search == SEARCH_RANDOM ? rl::random_scheduler_type : rl::fair_full_search_scheduler_type;
	params.iteration_count = executions_allowed;
	params.execution_depth_limit = 5000;
	good = rl::run_test<Test, Explorer>(params, state, false) == rl::test_result_success;
	*executions = params.stop_iteration;
	if (!good)
	{
		params.initial_state = state.str();
		params.collect_history = true;
		(void) rl::run_test<Test, Explorer>(params, unused, true);
	}
	return good;
}

#endif /* EXPLORE_HPP */
