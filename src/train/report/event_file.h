/* An event file of TensorBoard: a TFRecord file of tensorflow.Event messages (event.proto). Only three kinds of
 * messages are needed (version, start of a run, scalar), so that this file encodes them by itself.
 *
 *   record:  u64 length, u32 masked CRC-32C of the length, message, u32 masked CRC-32C of the message; little-endian
 *
 * Leaves out: which scalars are written (tensorboard.h). */
#ifndef TRAIN_REPORT_EVENT_FILE_H
#define TRAIN_REPORT_EVENT_FILE_H

#include "base/status.h"

#include <stdio.h>

typedef struct event_file {
    FILE *stream;
    char *path;
} event_file; /* all zeros: not open */

/* Creates a file in `folder` (created if absent). TensorBoard reads a folder's files in the order of their names, so
 * the time in this one's name is later than that of all others. It supersedes what they have of first_step and later.
 */
int event_file_create(const char *folder, int64_t first_step, event_file *out);
void event_file_close(event_file *f);

/* Writes and flushes one value, which is stored as f32 and may be NaN. */
int event_file_scalar(event_file *f, int64_t step, const char *tag, double value);

#endif
