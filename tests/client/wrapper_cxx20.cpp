/*-------------------------------------------------------------------------
 *
 * wrapper_cxx20.cpp
 *	  wrapper.cpp as C++20, in which pqpool.hpp has more to work with.
 *
 * flags: -std=c++20
 * server: pgpool_monitor.report_interval = 100ms
 *
 *-------------------------------------------------------------------------
 */
/* NOLINTNEXTLINE(bugprone-suspicious-include): the same tests */
#include "wrapper.cpp"
