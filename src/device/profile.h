/* Profile of a device: the begin and the duration of each op, from lckv_profile_start() to lckv_profile_stop().
 *
 * While it runs, entries of the op table are replaced by functions that wait for the device before and after the op.
 * Therefore ops do not overlap. An op within an op is not recorded: its time is in the outer op's. A composed op that
 * the device does not override is recorded as the ops of which it consists. */
#ifndef DEVICE_PROFILE_H
#define DEVICE_PROFILE_H

#include "device/device.h"

/* Stops the profile, if one is running, and discards it. For device_close(). */
void device_profile_discard(device *d);

#endif
