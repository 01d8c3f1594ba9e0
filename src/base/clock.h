/* The clock that durations are measured by: no adjustment of the date moves it. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/* Seconds since some moment before the process began. */
double clock_seconds(void);

#endif
