/*-------------------------------------------------------------------------
 *
 * draw.h
 *	  Random numbers for tests that try many inputs: the same in every run, so
 *	  that what fails once fails again.
 *
 * The generator is Marsaglia's xorshift64 (Journal of Statistical Software 8:14, 2003).
 *
 *-------------------------------------------------------------------------
 */
#ifndef DRAW_H
#define DRAW_H

#include <stdint.h>

#define countof(array) ((int) (sizeof(array) / sizeof((array)[0])))

static uint64_t random_state = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t
draw64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

__attribute__((unused)) static unsigned
draw(unsigned n)
{
	return (unsigned) (draw64() >> 33) % n;
}

#endif /* DRAW_H */
