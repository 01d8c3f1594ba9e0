/* Functions on the view of a run, see run_view.h. */
#include "train/run_view.h"

#include "base/files/file.h"

#include <stdlib.h>

double run_view_epoch(const run_view *run, int64_t step) {
    if (!run->steps_per_epoch) return 0;
    int64_t whole = step / run->steps_per_epoch, more = step % run->steps_per_epoch * run->examples_per_step;
    return (double)whole + (double)more / (double)run->train_examples;
}

bool run_view_has_output(const run_view *run, const char *name) {
    char *path;
    if (path_join(run->output_dir, name, &path) < 0) return false;
    bool there = file_exists(path);
    free(path);
    return there;
}
