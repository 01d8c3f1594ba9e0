/* What observers and checkpoints see of a trainer, see trainer.h. */
#include "train/trainer.h"

static bool stops_early(const lckv_trainer *t) {
    return t->early_stopping_patience > 0 && t->state.best.since >= t->early_stopping_patience;
}

bool trainer_finished(const lckv_trainer *t) {
    return t->state.step >= t->steps || stops_early(t);
}

static double tokens_per_example(const lckv_trainer *t) {
    bool vary = t->train->count_tokens && t->train->count;
    return vary ? (double)t->train_tokens / (double)t->train->count : (double)t->train->block_size;
}

static double flops_so_far(const lckv_trainer *t) {
    return t->train->block_size ? t->flops_per_example * ((double)t->state.tokens / t->train->block_size) : 0;
}

run_view trainer_view(const lckv_trainer *t) {
    bool best = t->load_best_model_at_end && t->state.best.step >= 0;
    return (run_view){
        .output_dir = t->output_dir,
        .resumed_from = t->resumed_from,
        .device = t->device->features,
        .threads = t->device->threads,
        .ranks = t->collectives->ranks,
        .parameters = params_elements(t->model->params),
        .do_train = t->do_train,
        .evaluates = t->do_eval && t->validation->count,
        .train_examples = t->train->count,
        .block_size = t->train->block_size,
        .tokens_per_example = tokens_per_example(t),
        .examples_per_step = t->examples_per_step,
        .batch_size = t->stepper->batch_size,
        .eval_batch_size = stepper_eval_examples(t->stepper),
        .steps = t->steps,
        .steps_per_epoch = t->steps_per_epoch,
        .logging_steps = t->logging_steps,
        .eval_steps = t->eval_interval.steps,
        .save_steps = t->save_interval.steps,
        .first_step = t->first_step,
        .step = t->state.step,
        .tokens = t->state.tokens,
        .skipped = t->state.skipped,
        .begin = t->begin_seconds,
        .flops = flops_so_far(t),
        .finished = trainer_finished(t),
        .best_step = best ? t->state.best.step : -1,
        .best_loss = t->state.best.metric,
        .evaluation = t->evaluation,
    };
}

run_conditions trainer_conditions(const lckv_trainer *t) {
    return (run_conditions){
        .device = t->device->features,
        .ranks = t->collectives->ranks,
        .threads = t->device->threads,
        .seed = t->seed,
        .shuffle = t->shuffle,
        .block_size = t->stepper->block_size,
        .examples = t->train->count,
        .batch_size = t->stepper->batch_size,
        .examples_per_step = t->examples_per_step,
    };
}

checkpoint_contents trainer_checkpoint(const lckv_trainer *t) {
    return (checkpoint_contents){
        .model = t->model,
        .optimizer = t->stepper->optimizer,
        .origin = &t->origin,
        .state = &t->state,
        .conditions = trainer_conditions(t),
        .observers = &t->observers,
        .view = trainer_view(t),
    };
}
