/* Profile of a device: the begin and the duration of each op, from lckv_profile_start() to lckv_profile_stop().
 *
 * While it runs, entries of the op table are replaced by functions that wait for the device before and after the op.
 * Therefore ops do not overlap. An op within an op is not recorded: its time is in the outer op's. A composed op that
 * the device does not override is recorded as the ops of which it consists. Operations of collectives are recorded like
 * ops (collectives/collectives.h). */
#ifndef DEVICE_PROFILE_H
#define DEVICE_PROFILE_H

#include "device/device.h"

/* Records work beside the op table: call one before it and the other after it, with its status and the bytes of its
 * operands. `name` is a constant. Both do nothing if d is NULL or not profiled. */
int device_profile_begin(device *d, const char *name);
int device_profile_end(device *d, int status, double bytes);

/* Stops the profile, if one is running, and discards it. For device_close(). */
void device_profile_discard(device *d);

#endif
