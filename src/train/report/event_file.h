/* An event file of TensorBoard: a TFRecord file whose records are tensorflow.Event messages (event.proto), written by
 * hand since so little of them is needed: the version, where a run starts, and scalars.
 *
 *   record:  u64 length, u32 masked CRC-32C of it, the message, u32 masked CRC-32C of that; all little-endian
 *
 * Leaves out: which scalars (tensorboard.h). */
#ifndef TRAIN_REPORT_EVENT_FILE_H
#define TRAIN_REPORT_EVENT_FILE_H

#include "base/status.h"

#include <stdio.h>

typedef struct event_file {
    FILE *stream;
    char *path;
} event_file; /* all zeros: none is open */

/* A new file in `folder`, which is made if absent. TensorBoard reads a folder's files by their names, so this one's
 * time is later than any other's there. What those say of first_step and later is superseded. */
int event_file_create(const char *folder, int64_t first_step, event_file *out);
void event_file_close(event_file *f);

/* On the disk when it returns, for those who read while it grows. A value may be anything but is kept as f32. */
int event_file_scalar(event_file *f, int64_t step, const char *tag, double value);

#endif
