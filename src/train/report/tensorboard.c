/* Curves for TensorBoard, see tensorboard.h. */
#include "train/report/tensorboard.h"

#include "base/files/file.h"
#include "train/report/event_file.h"

#include <math.h>
#include <stdlib.h>

typedef struct tensorboard {
    char *folder;
    event_file events;
} tensorboard;

/* One file per process; TensorBoard joins them. No file if nothing is left to do. */
static int begin(void *self, const run_view *run) {
    tensorboard *b = self;
    if (!run->do_train || (run->finished && !run->evaluates)) return LCKV_OK;
    return event_file_create(b->folder, run->step ? run->step + 1 : 0, &b->events);
}

typedef struct scalar {
    const char *tag;
    double value;
} scalar;

static int write_scalars(tensorboard *b, int64_t step, const scalar *list, size_t count) {
    for (size_t i = 0; b->events.stream && i < count; i++)
        TRY(event_file_scalar(&b->events, step, list[i].tag, list[i].value));
    return LCKV_OK;
}

/* Nothing if the value is NAN. */
static int write_known(tensorboard *b, int64_t step, scalar s) {
    return isnan(s.value) ? LCKV_OK : write_scalars(b, step, &s, 1);
}

#define WRITE_SCALARS(b, step, list) write_scalars((b), (step), (list), sizeof(list) / sizeof *(list))

static int step(void *self, const run_view *run, const lckv_train_progress *p) {
    if (!p->logged) return LCKV_OK;
    const scalar list[] = {
        {"train/loss", p->mean_loss},
        {"train/grad_norm", p->grad_norm},
        {"train/learning_rate", p->learning_rate},
        {"train/epoch", run_view_epoch(run, p->step)},
        {"train/tokens_per_second", p->tokens_per_second},
    };
    TRY(WRITE_SCALARS(self, p->step, list));
    TRY(write_known(self, p->step, (scalar){"train/loop_residual", p->loop_residual}));
    return write_known(self, p->step, (scalar){"train/communication_wait_seconds", p->communication_wait});
}

static int evaluated(void *self, const run_view *run, const lckv_evaluation *e) {
    double samples = (double)e->blocks;
    const scalar list[] = {
        {"eval/loss", e->loss},
        {"eval/accuracy", e->accuracy},
        {"eval/perplexity", e->perplexity},
        {"eval/runtime", e->seconds},
        {"eval/samples_per_second", e->seconds > 0 ? samples / e->seconds : 0},
    };
    return WRITE_SCALARS(self, run->step, list);
}

static int end(void *self, const run_view *run, const lckv_train_result *r, int status) {
    if (status < 0 || run->step == run->first_step) return LCKV_OK;
    const scalar list[] = {
        {"train/train_loss", r->train_loss},
        {"train/train_runtime", r->seconds},
        {"train/total_flos", run->flops},
    };
    return WRITE_SCALARS(self, run->step, list);
}

static void release(void *self) {
    tensorboard *b = self;
    event_file_close(&b->events);
    free(b->folder);
    free(b);
}

static int choose_folder(const lckv_train_options *o, char **out) {
    char *runs = NULL;
    if (!o->logging_dir) TRY(path_join(o->output_dir, "runs", &runs));
    const char *chosen = runs ? runs : o->logging_dir;
    int status = path_join(chosen, o->run_name ? o->run_name : "", out);
    free(runs);
    return status;
}

int tensorboard_attach(observers *all, const lckv_train_options *options) {
    tensorboard *b = calloc(1, sizeof *b);
    REQUIRE(b, LCKV_ERROR_MEMORY, "no memory for events");
    int status = choose_folder(options, &b->folder);
    if (status >= 0)
        return observers_add(
            all, (observer){
                     .self = b, .begin = begin, .step = step, .evaluated = evaluated, .end = end, .release = release});
    free(b);
    return status;
}
