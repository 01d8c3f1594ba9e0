/* The counting device: the whole decoder and tape run on it, but its ops only add up what they would have read, written
 * and multiplied, and its memory is addresses that nobody may follow. What `inspect` predicts, what a batch needs, and
 * the needed FLOPs of a benchmark come from it.
 */
#ifndef DEVICE_COUNT_COUNT_H
#define DEVICE_COUNT_COUNT_H

#include "device/device.h"

/* An entry for every op: count_ops.c. count.c opens the device (open.h). */
extern const struct device_ops count_ops;
extern const struct device_formats count_formats; /* all of them: only sizes count */

#endif
