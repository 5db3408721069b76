#include "postgres.h" /* which has what this name stands for */
