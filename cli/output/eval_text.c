/* lckv eval on texts; see eval_text.h. --output_dir gets the files of the published test_streaming.py: log.txt with the
 * negative log-likelihood of each token, and ppl.txt; also the curve of the loss by position. */
#include "eval_text.h"

#include "cli/bench/chart.h"
#include "cli/prompts.h"
#include "output.h"
#include "timer.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct evaluation {
    const struct eval_text *flags;
    lckv_perplexity *perplexity;
    FILE *log;      /* NULL: no log */
    int log_error;  /* errno of the first failure to write the log; 0: none */
    int64_t tokens; /* tokens scored so far */
    int64_t all;    /* tokens to score */
    double start;   /* start time in seconds */
    double sum;     /* sum of the negative log-likelihoods in nats */
} evaluation;

/* ---------------------------------------------------------------- progress */

static void show(evaluation *r) {
    char left[32], all[48], speed[32];
    if (!progress_due()) return;
    double seconds = timer_seconds() - r->start;
    human_time(seconds / (double)r->tokens * (double)(r->all - r->tokens), left);
    progress((double)r->tokens / (double)r->all, "%lld/%s  mean nll %.4f  %s tokens/s  %s left", (long long)r->tokens,
             human_quantity(r->all, "token", all), r->sum / (double)r->tokens,
             human_rate((double)r->tokens / seconds, speed), left);
}

static bool each_token(void *user, double nll) {
    evaluation *r = user;
    r->tokens++;
    r->sum += nll;
    if (r->log && fprintf(r->log, "%.17g\n", nll) < 0 && !r->log_error) r->log_error = errno;
    show(r);
    return !interrupted();
}

static int read_texts(const char *command, evaluation *r, const prompt_list *texts) {
    int status = LCKV_OK;
    for (int i = 0; i < texts->count && status >= 0; i++)
        status = lckv_perplexity_read(r->perplexity, texts->items[i].ids, texts->items[i].count);
    progress_end();
    return status < 0 ? library_error(command, status) : EXIT_FINE;
}

/* ---------------------------------------------------------------- output files */

static char *path_in(const char *folder, const char *name) {
    size_t length = strlen(folder) + strlen(name) + 2;
    char *path = need(malloc(length));
    snprintf(path, length, "%s/%s", folder, name);
    return path;
}

static int write_in(const char *command, const char *folder, const char *name, const char *text) {
    char *path = path_in(folder, name);
    int code = write_file(command, path, text);
    free(path);
    return code;
}

static int write_points(const char *command, const char *folder, const lckv_curve_point *points, int count) {
    enum { LINE_BYTES = 80 };
    char *text = need(malloc((size_t)(count + 1) * LINE_BYTES));
    size_t length = (size_t)snprintf(text, LINE_BYTES, "first,tokens,mean_nll\n");
    for (int i = 0; i < count; i++)
        length += (size_t)snprintf(text + length, LINE_BYTES, "%lld,%lld,%.6f\n", (long long)points[i].first,
                                   (long long)points[i].tokens, points[i].nll);
    int code = write_in(command, folder, "curve.csv", text);
    free(text);
    return code;
}

/* Draws the curve, with a dashed line at the mean. */
static int write_picture(const char *command, const evaluation *r, const lckv_curve_point *points, int count) {
    lckv_perplexity_result result = lckv_perplexity_so_far(r->perplexity);
    chart_point *chart_points = need(calloc((size_t)count + 1, sizeof *chart_points));
    char title[96], tokens[48];
    for (int i = 0; i < count; i++)
        chart_points[i] = (chart_point){(double)points[i].first + (double)points[i].tokens / 2, points[i].nll, 0};
    snprintf(title, sizeof title, "loss by position: mean %.3f, %s", result.mean_nll,
             human_quantity(result.tokens, "token", tokens));
    const chart_series curve = {NULL, chart_points, count};
    const chart_lines c = {.title = title,
                           .x_title = "tokens",
                           .y_title = "nats per token",
                           .series = &curve,
                           .count = 1,
                           .level = result.mean_nll};
    char *svg = chart_lines_svg(&c);
    int code = write_in(command, r->flags->output_dir, "curve.svg", svg);
    free(svg);
    free(chart_points);
    return code;
}

static int write_folder(const char *command, const evaluation *r, const lckv_curve_point *points, int count) {
    char ppl[64];
    const char *folder = r->flags->output_dir;
    if (!folder) return EXIT_FINE;
    snprintf(ppl, sizeof ppl, "%.17g\n", lckv_perplexity_so_far(r->perplexity).perplexity);
    int code = write_in(command, folder, "ppl.txt", ppl);
    if (!code) code = write_points(command, folder, points, count);
    return code ? code : write_picture(command, r, points, count);
}

/* ---------------------------------------------------------------- printed results */

static json_t *curve_json(const lckv_curve_point *points, int count) {
    json_t *curve = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(curve, json_pack("{s:I, s:I, s:f}", "first", (json_int_t)points[i].first, "tokens",
                                               (json_int_t)points[i].tokens, "mean_nll", points[i].nll));
    return curve;
}

static int print_result(const evaluation *r, const lckv_curve_point *points, int count) {
    lckv_perplexity_result result = lckv_perplexity_so_far(r->perplexity);
    double seconds = timer_seconds() - r->start;
    if (!r->flags->json) {
        char line[160], speed[32];
        snprintf(line, sizeof line, "tokens      %lld\nmean_nll    %.6f\nperplexity  %.4f\n", (long long)result.tokens,
                 result.mean_nll, result.perplexity);
        notice("%s tokens/s", human_rate((double)result.tokens / seconds, speed));
        return print_bytes(line, strlen(line)) ? EXIT_FINE : EXIT_FAILED;
    }
    json_t *object = json_pack("{s:I, s:f, s:f, s:f, s:f, s:I, s:o}", "tokens", (json_int_t)result.tokens, "mean_nll",
                               result.mean_nll, "perplexity", result.perplexity, "seconds", seconds,
                               "tokens_per_second", (double)result.tokens / seconds, "cache_bytes",
                               (json_int_t)result.cache_bytes, "curve", curve_json(points, count));
    bool printed = object && print_json(object);
    json_decref(object);
    return printed ? EXIT_FINE : EXIT_FAILED;
}

static int finish(const char *command, const evaluation *r) {
    lckv_curve_point *points;
    int count, status = lckv_perplexity_curve(r->perplexity, &points, &count);
    if (status < 0) return library_error(command, status);
    int code = r->tokens ? write_folder(command, r, points, count)
                         : failure(command, "no tokens to score; a text needs at least two");
    if (!code) code = print_result(r, points, count);
    lckv_free(points);
    return code;
}

/* ---------------------------------------------------------------- evaluation */

static int64_t tokens_to_score(const struct eval_text *flags, const prompt_list *texts) {
    int64_t all = 0, wanted = flags->perplexity.num_eval_tokens;
    for (int i = 0; i < texts->count; i++) all += texts->items[i].count > 1 ? texts->items[i].count - 1 : 0;
    return wanted && wanted < all ? wanted : all;
}

static int open_log(const char *command, evaluation *r) {
    const char *folder = r->flags->output_dir;
    if (!folder) return EXIT_FINE;
    if (make_folders(command, folder)) return EXIT_FAILED;
    char *path = path_in(folder, "log.txt");
    int code = check_target(command, path);
    if (!code && !(r->log = fopen(path, "we"))) code = failure(command, "cannot write '%s': %s", path, strerror(errno));
    free(path);
    return code;
}

static int close_log(const char *command, evaluation *r, int code) {
    if (r->log && fclose(r->log) && !r->log_error) r->log_error = errno;
    if (!r->log_error || code) return code;
    return failure(command, "cannot write '%s/log.txt': %s", r->flags->output_dir, strerror(r->log_error));
}

static int score(const char *command, const struct eval_text *flags, const prompt_list *texts, lckv_model *model) {
    evaluation r = {.flags = flags, .all = tokens_to_score(flags, texts), .start = timer_seconds()};
    lckv_perplexity_options options = flags->perplexity;
    options.callback = each_token;
    options.user = &r;
    int status = lckv_perplexity_open(model, &options, &r.perplexity);
    int code = status < 0 ? library_error(command, status) : open_log(command, &r);
    if (!code) code = read_texts(command, &r, texts);
    code = close_log(command, &r, code);
    if (!code) code = finish(command, &r);
    lckv_perplexity_free(r.perplexity);
    return code;
}

static int is_text(const struct dirent *entry) {
    static const char *const ENDINGS[] = {".txt", ".jsonl", ".ndjson", ".json"};
    size_t length = strlen(entry->d_name);
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        size_t ending = strlen(ENDINGS[i]);
        if (length > ending && !strcmp(entry->d_name + length - ending, ENDINGS[i])) return 1;
    }
    return 0;
}

/* Adds a file, or all texts in a folder, sorted by name. */
static int add_path(const char *command, prompt_list *texts, const char *path) {
    struct stat info;
    struct dirent **entries;
    if (stat(path, &info))
        return failure(
            command,
            "cannot read '%s': %s; --file (or --dataset_name) takes files and folders, such as the folder that "
            "lckv fetch ORG/NAME --repo_type dataset prints",
            path, strerror(errno));
    if (!S_ISDIR(info.st_mode)) return prompts_add_file(command, texts, path, false);
    int count = scandir(path, &entries, is_text, alphasort), code = EXIT_FINE;
    if (count < 1) code = failure(command, "no .txt or .jsonl file in the folder '%s'", path);
    for (int i = 0; i < count; i++) {
        char *file = path_in(path, entries[i]->d_name);
        if (!code) code = prompts_add_file(command, texts, file, false);
        free(file);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    return code;
}

static int read_files(const char *command, const struct eval_text *flags, prompt_list *texts) {
    int code = EXIT_FINE;
    for (int i = 0; i < flags->files.count && !code; i++) code = add_path(command, texts, flags->files.items[i]);
    while (flags->num_samples && texts->count > flags->num_samples) {
        given_prompt *last = &texts->items[--texts->count];
        free(last->text);
        lckv_free(last->ids);
    }
    return code;
}

int eval_texts(const char *command, const struct eval_text *flags, const struct model_flags *model) {
    prompt_list texts = {0};
    opened_model m = {0};
    int code = read_files(command, flags, &texts);
    if (!code) code = open_model(command, model, prompts_have_text(&texts), &m);
    if (!code) code = prompts_encode(command, &texts, m.tokenizer, "", !flags->no_special_tokens);
    if (!code) code = score(command, flags, &texts, m.model);
    close_model(&m);
    prompts_free(&texts);
    return code;
}
