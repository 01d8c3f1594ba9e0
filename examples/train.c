/* Trains a new model for a few steps: train CONFIG TOKENIZER TEXT_FILE OUTPUT_DIR */
#include <lckv.h>
#include <stdio.h>

/* Reports each step. Returns false to stop. */
static bool on_progress(void *user, const lckv_train_progress *p) {
    (void)user;
    if (p->phase == LCKV_TRAIN_STEPPING)
        printf("step %lld of %lld: loss %.3f\n", (long long)p->step, (long long)p->steps, p->loss);
    return true;
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: train CONFIG TOKENIZER TEXT_FILE OUTPUT_DIR\n"), 2;
    lckv_train_options options = lckv_train_defaults();
    options.config_name = argv[1];
    options.tokenizer_name = argv[2];
    options.train_files = (const char *const *)&argv[3];
    options.train_file_count = 1;
    options.output_dir = argv[4];
    options.block_size = 64;
    options.per_device_train_batch_size = 2;
    options.learning_rate = 1e-3;
    options.max_steps = 5;
    options.callback = on_progress;

    lckv_trainer *trainer = NULL;
    lckv_train_result result;
    int status = lckv_trainer_create(&options, &trainer);
    if (status >= 0) status = lckv_trainer_run(trainer, &result);
    if (status >= 0) printf("mean loss %.3f after %lld steps\n", result.train_loss, (long long)result.steps);
    if (status < 0) fprintf(stderr, "error: %s\n", lckv_last_error());
    lckv_trainer_free(trainer);
    return status < 0;
}
