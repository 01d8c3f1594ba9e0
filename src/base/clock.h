/* Monotonic clock, for measuring durations. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/* Seconds since an arbitrary point before the start of the process. */
double clock_seconds(void);

#endif
