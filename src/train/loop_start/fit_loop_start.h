/* Fits a learned start (model/loop_start.h) to a model and a text.
 *
 * The targets, the exact slots of all tokens, are computed once and kept on the device. Then AdamW minimizes the
 * relative squared error of keys and values. Some blocks of the text are held out: on them the KL divergence from the
 * exact form is measured, by iterations, from zeros and from the start.
 *
 * The text is a corpus (data/corpus.h). Leaves out: the file (io/loop_start_file.h), starts that are trained beside
 * their model. */
#ifndef TRAIN_FIT_LOOP_START_H
#define TRAIN_FIT_LOOP_START_H

#include "data/examples.h"
#include "model/model.h"

typedef struct fit_options {
    dtype compute;        /* f32 or bf16 */
    int64_t width;        /* of the hidden layer; 0: loop_start_default_width() */
    int64_t steps;        /* 0: chosen from the number of tokens */
    double learning_rate; /* highest, after the warmup */
    uint64_t seed;
    /* Progress, called with the name of the current part of the work and the fraction done; false stops. */
    bool (*go_on)(void *user, const char *part, double fraction);
    void *user;
} fit_options;

typedef struct fit_result {
    int64_t tokens, held_out; /* fitted to, and held out */
    int64_t steps;
    double relative_error; /* of keys and values over the last steps: squared distance over square */
} fit_result;

/* Fits a start to examples of equal length (blocks) and hands it to the model, whose weights do not change. The start
 * has f32 values and its measured KL. */
int fit_loop_start(model *m, const examples *data, const fit_options *options, fit_result *out);

#endif
