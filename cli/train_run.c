/* Runs the trainer and prints its progress and results; see train_run.h. */
#include "train_run.h"
#include "cli/flags/command_line.h"
#include "cli/output/output.h"
#include "cli/output/train_progress.h"
#include "start_processes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show_summary(const lckv_train_summary *s, bool tuning) {
    char parameters[32], tokens[32], blocks[48], steps[48], epoch[32];
    notice("%s parameters. %s tokens in %s of %s%lld. %s, %s per epoch.",
           human_count((double)s->parameters, parameters), human_count((double)s->train_tokens, tokens),
           human_quantity(s->train_blocks, tuning ? "example" : "block", blocks), tuning ? "at most " : "",
           (long long)s->block_size, human_quantity(s->steps, "step", steps), human_grouped(s->steps_per_epoch, epoch));
    if (s->trainable_parameters < s->parameters)
        notice("%s parameters are trained (%.2f %%).", human_count((double)s->trainable_parameters, parameters),
               100.0 * (double)s->trainable_parameters / (double)s->parameters);
}

/* ---------------------------------------------------------------- results */

/* Reports the steps of this process only, not those before it resumed. */
static void show_training(const lckv_train_result *r, bool ended, const char *output_dir) {
    char steps[48], all[48] = "", tokens[32], time[32], speed[32];
    if (r->new_steps < r->steps) snprintf(all, sizeof all, " (%lld in total)", (long long)r->steps);
    if (r->new_steps > 0)
        notice("%s%s, %s tokens in %s (%s tokens/s), mean loss %.4f. The model is in '%s'.",
               human_quantity(r->new_steps, "step", steps), all, human_count((double)r->new_tokens, tokens),
               human_time(r->seconds, time), human_count(r->tokens_per_second, speed), r->train_loss, output_dir);
    else if (r->steps > 0 && ended)
        notice("training was already complete: %s, %s tokens, mean loss %.4f. The model is in '%s'.",
               human_quantity(r->steps, "step", steps), human_count((double)r->tokens, tokens), r->train_loss,
               output_dir);
}

static void show_communication(const lckv_train_result *r) {
    double share = r->communication_wait * (double)r->new_steps / r->seconds;
    if (isfinite(r->communication_wait))
        notice("communication that computation did not hide: %.3g s per step, %.1f %% of the time",
               r->communication_wait, 100 * share);
}

static void show_result(const lckv_train_result *r, bool ended, const char *output_dir) {
    char skipped[48];
    show_training(r, ended, output_dir);
    show_communication(r);
    if (r->skipped_steps > 0)
        notice("%s %s skipped because the loss or gradient was not finite",
               human_quantity(r->skipped_steps, "step", skipped), r->skipped_steps == 1 ? "was" : "were");
    if (isfinite(r->eval_loss))
        notice("validation: loss %.4f, perplexity %.3f, accuracy %.4f", r->eval_loss, r->perplexity, r->eval_accuracy);
}

static int print_result(const lckv_train_summary *s, const lckv_train_result *r, const char *output_dir) {
    json_t *object = json_pack(
        "{ss sI sI sI sI sI sI sI sI so so so so so so}", "output_dir", output_dir, "parameters",
        (json_int_t)s->parameters, "block_size", (json_int_t)s->block_size, "train_blocks", (json_int_t)s->train_blocks,
        "steps", (json_int_t)r->steps, "tokens", (json_int_t)r->tokens, "new_steps", (json_int_t)r->new_steps,
        "new_tokens", (json_int_t)r->new_tokens, "skipped_steps", (json_int_t)r->skipped_steps, "seconds",
        number_or_null(r->seconds), "tokens_per_second", number_or_null(r->tokens_per_second), "train_loss",
        number_or_null(r->train_loss), "eval_loss", number_or_null(r->eval_loss), "perplexity",
        number_or_null(r->perplexity), "eval_accuracy", number_or_null(r->eval_accuracy));
    if (object && isfinite(r->communication_wait))
        json_object_set_new(object, "communication_wait_seconds", json_real(r->communication_wait));
    bool printed = object && print_json(object);
    json_decref(object);
    return printed ? EXIT_FINE : EXIT_FAILED;
}

/* Whether the error is that rank 0 is lost or hangs: then it does not print it. */
static bool first_rank_is_lost(void) {
    int count;
    char next;
    return sscanf(lckv_last_error(), "process 0 of %d%c", &count, &next) == 2 && next == ' ';
}

/* Rank 0 prints the error that all ranks get; rank 1 does if rank 0 cannot. */
static int train_error(const struct train_flags *o, int status) {
    if (lckv_processes_rank(o->train.processes) == 1 && first_rank_is_lost())
        fprintf(stderr, "lckv %s: %s\n", o->command, lckv_last_error());
    return library_error(o->command, status);
}

static int run(lckv_trainer *trainer, const struct train_flags *o) {
    lckv_train_result result;
    lckv_train_summary summary = lckv_trainer_summary(trainer);
    show_summary(&summary, o->train.tuning != NULL);
    train_progress_begin(o->train.user, trainer, lckv_processes_rank(o->train.processes) == 0);
    int status = lckv_trainer_run(trainer, &result);
    if (status < 0 && status != LCKV_ERROR_INTERRUPTED) return train_error(o, status);
    show_result(&result, status >= 0, o->train.output_dir);
    int code = o->json ? print_result(&summary, &result, o->train.output_dir) : EXIT_FINE;
    return status < 0 ? train_error(o, status) : code;
}

/* Other values of --report_to in transformers. Both programs skip those that are not available. */
static const char *const OTHER_TRACKERS[] = {"azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive",
                                             "flyte",    "mlflow",  "neptune",    "swanlab",  "wandb",   NULL};

static bool is_other_tracker(const char *name) {
    int i = 0;
    while (OTHER_TRACKERS[i] && strcmp(OTHER_TRACKERS[i], name)) i++;
    return OTHER_TRACKERS[i] != NULL;
}

static int choose_reports(struct train_flags *o) {
    for (int i = 0; i < o->report_to.count; i++) {
        const char *name = o->report_to.items[i];
        if (!strcmp(name, "tensorboard") || !strcmp(name, "all"))
            o->train.tensorboard = true;
        else if (is_other_tracker(name))
            notice("--report_to %s is not available and is ignored; only tensorboard is available", name);
        else if (strcmp(name, "none"))
            return usage_error(o->command, "--report_to: expected none, tensorboard or all, found \"%s\"", name);
    }
    return EXIT_FINE;
}

static int check(const struct train_flags *o) {
    if (!o->train.model_name_or_path && o->train.tuning)
        return usage_error(o->command, "--model_name_or_path is required; see lckv help %s", o->command);
    if (!o->train.model_name_or_path && !o->train.config_name)
        return usage_error(o->command, "expected --config_name, --model_name_or_path, or both");
    if (o->train.do_train && !o->train_files.count && !o->train.dataset_name)
        return usage_error(o->command, "--train_file or --dataset_name is required; see lckv help %s", o->command);
    if (o->use_sequential && o->train.loop_form == LCKV_LOOP_EXACT)
        return usage_error(o->command, "--use_sequential and --loop_form exact exclude each other");
    if (o->train.block_size == 1)
        return usage_error(o->command, "--%s: expected 0 or at least 2",
                           o->train.tuning ? "max_seq_length" : "block_size");
    return EXIT_FINE;
}

/* Options that flags do not set directly. */
static void set_other_options(struct train_flags *o) {
    o->lora.struct_size = sizeof o->lora;
    o->lora.target_modules = (const char *const *)o->lora_target_modules.items;
    o->lora.target_module_count = o->lora_target_modules.count;
    o->train.lora = &o->lora;
    o->train.train_files = (const char *const *)o->train_files.items;
    o->train.train_file_count = o->train_files.count;
    o->train.validation_files = (const char *const *)o->validation_files.items;
    o->train.validation_file_count = o->validation_files.count;
    o->train.shuffle = !o->no_shuffle;
    if (o->use_sequential) o->train.loop_form = LCKV_LOOP_SEQUENTIAL;
    if (o->use_cpu || o->no_cuda) o->train.device = "cpu";
    o->train.threads = (int)o->threads;
}

static int train(struct train_flags *o) {
    int code = check(o);
    if (!code) code = choose_reports(o);
    if (code) return code;
    set_other_options(o);
    train_progress shown = {0};
    o->train.callback = train_progress_show;
    o->train.user = &shown;
    stop_on_scheduler_signals();
    lckv_trainer *trainer;
    progress(-1, "loading data and model");
    int status = lckv_trainer_create(&o->train, &trainer);
    progress_end();
    if (status < 0) return train_error(o, status);
    code = run(trainer, o);
    lckv_trainer_free(trainer);
    return code;
}

static int check_count(const struct train_flags *o, int count) {
    if (!o->num_processes || o->num_processes == count) return EXIT_FINE;
    return usage_error(o->command, "--num_processes is %lld, but the launcher started %d; omit one of them",
                       (long long)o->num_processes, count);
}

/* Joins the processes that a launcher started. Rank 0 prints, and must finish before the processes close, because
 * launchers kill all processes when one fails. */
static int train_as_rank(struct train_flags *o) {
    int status = lckv_processes_open(o->ddp_timeout, &o->train.processes);
    if (status < 0) return library_error(o->command, status);
    if (lckv_processes_rank(o->train.processes) > 0) output_mute();
    int code = check_count(o, lckv_processes_count(o->train.processes));
    if (!code) code = train(o);
    print_flush();
    lckv_processes_close(o->train.processes);
    return code;
}

int train_run(struct train_flags *o, int argc, char **argv) {
    int announced, status = lckv_processes_announced(&announced);
    if (status < 0) return library_error(o->command, status);
    if (announced == 1 && o->num_processes > 1) return start_processes((int)o->num_processes, argv);
    char *typed = command_line(argc, argv);
    o->train.command = typed;
    int code = train_as_rank(o);
    free(typed);
    return code;
}
