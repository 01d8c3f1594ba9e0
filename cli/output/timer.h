/* Monotonic clock, for measuring durations. */
#ifndef CLI_TIMER_H
#define CLI_TIMER_H

/* Seconds since an arbitrary point in time. */
double timer_seconds(void);

#endif
