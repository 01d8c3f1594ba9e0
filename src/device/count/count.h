/* The counting device: the whole decoder and tape run on it, but its ops only add up what they would have read, written
 * and multiplied, and its memory is addresses that nobody may follow. What `inspect` predicts, what a batch needs, and
 * the needed FLOPs of a benchmark come from it.
 */
#ifndef DEVICE_COUNT_COUNT_H
#define DEVICE_COUNT_COUNT_H

#include "device/device.h"

/* Fills ops, memory, name and flags of a zeroed device. */
int count_open(device *d);

/* The table of counting ops (count_ops.c): it has an entry for every op. */
extern const struct device_ops count_ops;

#endif
