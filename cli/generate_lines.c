#include "generate_lines.h"
#include "cli/output/output.h"
#include "input.h"
#include "src/generate/sampling_parameters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Result of a prompt so far. */
struct line {
    json_t *sequences; /* results of its samples; NULL: not started */
    json_t *texts;     /* the text of each sample so far */
    int running;       /* number of samples that have not ended */
    char *error;       /* message if the prompt failed; NULL: it has not */
};

struct lines {
    const char *command;
    const opened_model *model;
    const prompt_list *prompts;
    const lckv_generate_options *options;
    FILE *file;
    struct line *lines; /* [prompts->count] */
    int first;          /* number of results that the file already had: index of the first prompt to run */
    int submitted;      /* number of prompts submitted to the engine, those in the file included */
    int written;        /* number of lines in the file */
    int write_error;    /* errno of the first failure to write to the file; 0: none */
};

/* ---------------------------------------------------------------- resuming */

/* Counts the complete lines of the file, which must be the results of prompts 0, 1, ... *end is the offset after them.
 */
static int count_lines(struct lines *l, const char *path, long *end) {
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length;
    int code = EXIT_FINE;
    *end = 0;
    while (!code && (length = read_line(l->command, path, l->file, &text, &capacity, &code)) > 0 &&
           text[length - 1] == '\n') {
        json_t *row = parse_json(text, (size_t)length, JSON_ALLOW_NUL, NULL);
        const json_t *index = json_object_get(row, "index");
        if (!json_is_integer(index) || json_integer_value(index) != l->first || l->first >= l->prompts->count)
            code =
                failure(l->command,
                        "%s, line %d: expected the result of prompt %d of %d; does the file belong to other prompts?",
                        path, l->first + 1, l->first, l->prompts->count);
        json_decref(row);
        l->first++;
        *end += (long)length;
    }
    free(text);
    return code;
}

static int open_file(struct lines *l, const char *path) {
    char all[48];
    long end;
    l->file = fopen(path, "a+b");
    if (!l->file) return failure(l->command, "cannot open '%s': %s", path, strerror(errno));
    struct stat info;
    if (fstat(fileno(l->file), &info) || !S_ISREG(info.st_mode))
        return failure(l->command, "'%s' is not a regular file, which resuming requires", path);
    /* Held until the file is closed. On a file system without locks there is no protection against a second process. */
    if (flock(fileno(l->file), LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return failure(l->command,
                       "another process is writing to '%s'; wait until it has ended, or choose another file", path);
    rewind(l->file);
    int code = count_lines(l, path, &end);
    if (code) return code;
    /* An incomplete last line is overwritten. */
    if (ftruncate(fileno(l->file), end) || fseek(l->file, end, SEEK_SET))
        return failure(l->command, "cannot write to '%s': %s", path, strerror(errno));
    if (l->first) notice("resuming: %s has %d of %s", path, l->first, human_quantity(l->prompts->count, "result", all));
    l->submitted = l->written = l->first;
    return EXIT_FINE;
}

/* ---------------------------------------------------------------- events */

static void release(struct line *line) {
    json_decref(line->sequences);
    json_decref(line->texts);
    free(line->error);
    *line = (struct line){0};
}

static bool is_done(const struct line *line) {
    return line->error || (line->sequences && !line->running);
}

/* Writes the lines of completed prompts, in order. */
static void write_lines(struct lines *l) {
    while (l->written < l->submitted && is_done(&l->lines[l->written]) && !l->write_error) {
        struct line *line = &l->lines[l->written];
        json_t *row = line->error ? json_pack("{s:i, s:s}", "index", l->written, "error", line->error)
                                  : json_pack("{s:i, s:O}", "index", l->written, "sequences", line->sequences);
        char *text = need(json_dumps(row, JSON_COMPACT | JSON_ENSURE_ASCII));
        if (fprintf(l->file, "%s\n", text) < 0 || fflush(l->file)) l->write_error = errno;
        free(text);
        json_decref(row);
        release(line);
        l->written++;
    }
}

static void on_event(void *user, const lckv_event *event) {
    struct lines *l = user;
    struct line *line = event->mark;
    json_t *sequence = json_array_get(line->sequences, (size_t)event->sample);
    if (event->token >= 0) json_array_append_new(json_object_get(sequence, "ids"), json_integer(event->token));
    json_t *parts = json_array_get(line->texts, (size_t)event->sample);
    if (event->text_bytes) json_array_append_new(parts, json_stringn(event->text, event->text_bytes));
    if (event->finish == LCKV_FINISH_NONE) return;
    static const char *const reasons[] = {
        [LCKV_FINISH_STOP] = "stop", [LCKV_FINISH_LENGTH] = "length", [LCKV_FINISH_ERROR] = "error"};
    json_object_set_new(sequence, "finish_reason", json_string(reasons[event->finish]));
    json_object_set_new(sequence, "encoding", json_string(encoding_name(event->encoding)));
    if (l->model->tokenizer) {
        size_t bytes = 0, i;
        json_t *part;
        json_array_foreach(parts, i, part) bytes += json_string_length(part);
        char *text = need(malloc(bytes + 1));
        bytes = 0;
        json_array_foreach(parts, i, part) {
            memcpy(text + bytes, json_string_value(part), json_string_length(part));
            bytes += json_string_length(part);
        }
        json_object_set_new(sequence, "text", json_stringn(text, bytes));
        free(text);
    }
    line->running--;
}

/* ---------------------------------------------------------------- running */

static int64_t new_tokens(const struct lines *l, const given_prompt *p) {
    const lckv_generate_options *o = l->options;
    int64_t positions = lckv_config_describe(lckv_model_config(l->model->model)).max_position_embeddings;
    if (o->window_length || p->count >= positions || o->length <= positions - p->count) return o->length;
    return positions - p->count;
}

enum { MAX_TOGETHER = 128 }; /* the engine runs at least this number of samples together */

static int open_engine(struct lines *l, lckv_engine **engine) {
    const lckv_generate_options *o = l->options;
    lckv_engine_options e = lckv_engine_defaults();
    int64_t positions = lckv_config_describe(lckv_model_config(l->model->model)).max_position_embeddings;
    for (int i = l->first; i < l->prompts->count && !o->window_length; i++) {
        int64_t length = l->prompts->items[i].count + new_tokens(l, &l->prompts->items[i]);
        if (length <= positions && length > e.max_model_len) e.max_model_len = length;
    }
    if (o->num_return_sequences > MAX_TOGETHER) e.max_num_seqs = o->num_return_sequences;
    e.window_length = o->window_length;
    e.num_sink_tokens = o->num_sink_tokens;
    e.bf16 = o->bf16;
    e.kv_dtype = o->kv_dtype;
    e.encoding_iterations = o->encoding_iterations;
    e.encoding_tolerance = o->encoding_tolerance;
    e.cost_table = o->cost_table;
    e.callback = on_event;
    e.user = l;
    return lckv_engine_create(l->model->model, l->model->tokenizer, &e, engine);
}

#define COPY(name, ...) r.name = o->name;

static int submit(struct lines *l, lckv_engine *engine, int at) {
    const lckv_generate_options *o = l->options;
    const given_prompt *p = &l->prompts->items[at];
    lckv_request r = lckv_request_defaults();
    uint64_t id;
    r.prompt = (lckv_prompt){p->ids, p->count};
    r.n = o->num_return_sequences;
    r.max_new_tokens = new_tokens(l, p);
    SAMPLING_PARAMETERS(COPY)
    r.seed = o->seed;
    r.stream = (uint64_t)at;
    r.ignore_eos = o->ignore_eos;
    r.stop = o->stop;
    r.stop_count = o->stop_count;
    r.encoding = o->encoding;
    r.mark = &l->lines[at];
    int status = lckv_engine_submit(engine, &r, &id);
    if (status < 0) return status;
    struct line *line = &l->lines[at];
    *line = (struct line){.sequences = json_array(), .texts = json_array(), .running = r.n};
    for (int i = 0; i < r.n; i++) {
        json_array_append_new(line->sequences, json_pack("{s:[]}", "ids"));
        json_array_append_new(line->texts, json_array());
    }
    return status;
}

/* Submits prompts until the queue is full. If one is rejected, its line has the error, and the others continue. */
static int submit_prompts(struct lines *l, lckv_engine *engine) {
    for (; l->submitted < l->prompts->count; l->submitted++) {
        int status = submit(l, engine, l->submitted);
        if (status == LCKV_ERROR_BUSY) break;
        if (status == LCKV_ERROR_MEMORY) return status;
        if (status < 0) l->lines[l->submitted].error = need(strdup(lckv_last_error()));
    }
    return LCKV_OK;
}

static int run(struct lines *l) {
    char all[48], tokens[48];
    lckv_engine *engine;
    int status = open_engine(l, &engine);
    while (status >= 0 && l->written < l->prompts->count && !l->write_error) {
        status = submit_prompts(l, engine);
        if (status >= 0) status = interrupted() ? LCKV_ERROR_INTERRUPTED : lckv_engine_step(engine);
        write_lines(l);
        progress((double)l->written / l->prompts->count, "%d of %s", l->written,
                 human_quantity(l->prompts->count, "prompt", all));
    }
    progress_end();
    int code = status < 0 ? library_error(l->command, status) : EXIT_FINE;
    if (status >= 0 && !l->write_error) {
        lckv_engine_stats s = lckv_engine_describe(engine);
        double seconds = s.prompt_seconds + s.decode_seconds;
        notice("%s: %s, %.1f s", human_quantity(l->prompts->count - l->first, "prompt", all),
               human_quantity(s.prompt_tokens, "prompt token", tokens), seconds);
    }
    lckv_engine_free(engine);
    return code;
}

int generate_lines(const char *command, const opened_model *m, const prompt_list *prompts,
                   const lckv_generate_options *options, const char *path) {
    struct lines l = {.command = command, .model = m, .prompts = prompts, .options = options};
    l.lines = need(calloc((size_t)prompts->count + 1, sizeof *l.lines));
    int code = open_file(&l, path);
    if (!code && l.first < prompts->count) code = run(&l);
    if (l.file && fclose(l.file) && !l.write_error) l.write_error = errno;
    if (l.write_error && !code) code = failure(command, "cannot write to '%s': %s", path, strerror(l.write_error));
    for (int i = 0; i < prompts->count; i++) release(&l.lines[i]);
    free(l.lines);
    return code;
}
