/* lckv chat: a conversation in the terminal, from standard input, or from a file of questions. */
#include "cli/chat/chat.h"
#include "cli/flags/flags.h"
#include "cli/input.h"
#include "cli/open_model.h"
#include "cli/output/output.h"
#include "commands.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of the flags. */
struct options {
    struct model_flags model;
    chat_settings settings;
    const char *system_prompt;                             /* text; NULL: none */
    const char *chat_template, *examples_path, *questions; /* files; NULL: none */
    flag_list eos_tokens;                                  /* texts of tokens */
    int64_t window_length, num_sink_tokens;                /* tokens; used with sink_cache */
    bool sink_cache, bf16, use_cpu, json;
};

#define SAMPLING_FLAG(name, KIND, in_request, in_generate, in_chat, valid_min, valid_max, valid, json_min, json_max,   \
                      flag, flag_min, flag_max, help)                                                                  \
    {#flag,           FLAG_##KIND,    #in_chat, "Answers", help, FLAG_INTO(struct options, settings.name),             \
     .min = flag_min, .max = flag_max},

static const flag FLAGS[] = {
    FLAGS_MODEL(struct options, model, ""),
    {"torch_dtype", FLAG_CHOICE, "auto", "Model",
     "data type in memory of weights that are not quantized; auto keeps the type of the checkpoint",
     FLAG_INTO(struct options, model.torch_dtype), .choices = TORCH_DTYPES},
    FLAG_WEIGHT_DTYPE(struct options, model.weight_dtype, "Model"),
    {"bf16", FLAG_SWITCH, NULL, "Model",
     "compute in bfloat16 (matrix products, attention, KV cache) instead of float32", FLAG_INTO(struct options, bf16)},
    FLAG_KV_DTYPE(struct options, model.kv_dtype, "Model"),

    {"system_prompt", FLAG_TEXT, NULL, "Conversation", "system message at the start of the conversation",
     FLAG_INTO(struct options, system_prompt)},
    {"chat_template", FLAG_TEXT, NULL, "Conversation",
     "file with the Jinja chat template; by default the tokenizer's own", FLAG_INTO(struct options, chat_template),
     .value = "FILE"},
    {"examples_path", FLAG_TEXT, NULL, "Conversation",
     "JSON or simple YAML file (name: text) with questions for the chat command `example`",
     FLAG_INTO(struct options, examples_path), .value = "FILE"},
    {"questions", FLAG_TEXT, NULL, "Conversation",
     "JSON lines with `turns`, as in MT-bench; lckv asks all of them in one conversation and exits",
     FLAG_INTO(struct options, questions), .value = "FILE"},

    {"max_new_tokens", FLAG_INT, "256", "Answers", "maximum number of tokens per answer",
     FLAG_INTO(struct options, settings.max_new_tokens), .min = 1, .max = 1e9},
    {"eos_tokens", FLAG_LIST, NULL, "Answers", "tokens that end an answer, in addition to the model's EOS",
     FLAG_INTO(struct options, eos_tokens)},
    /* clang-format off */
    SAMPLING_PARAMETERS(SAMPLING_FLAG)
    /* clang-format on */
    {"seed", FLAG_INT, "42", "Answers", "random seed; the same seed and questions give the same answers",
     FLAG_INTO(struct options, settings.seed), .min = 0, .max = 9e15},

    {"sink_cache", FLAG_SWITCH, NULL, "Streaming",
     "keep only the first and the most recent tokens in the KV cache (StreamingLLM), so that the conversation can be "
     "of any length",
     FLAG_INTO(struct options, sink_cache)},
    {"window_length", FLAG_INT, "256", "Streaming", "size of the sink cache in tokens",
     FLAG_INTO(struct options, window_length), .min = 1, .max = 1 << 30},
    {"num_sink_tokens", FLAG_INT, "2", "Streaming", "number of those tokens that are the first ones of the sequence",
     FLAG_INTO(struct options, num_sink_tokens), .min = 0, .max = 1 << 30},

    FLAGS_RANKS(struct options, model.ranks),

    FLAG_JSON(struct options, json),
    FLAG_DEVICE(struct options, model.device),
    FLAG_THREADS(struct options, model.threads),
    {"use_cpu", FLAG_SWITCH, NULL, "Common", "same as --device cpu", FLAG_INTO(struct options, use_cpu)},
    {0},
};

static const char *const EXAMPLES[] = {
    "a conversation in the terminal",
    "lckv chat --model_name_or_path demo-model --system_prompt \"Answer in one sentence.\"",
    "one question from a script",
    "echo 'Who is Mr. Darcy?' | lckv chat --model_name_or_path demo-model --max_new_tokens 60",
    NULL,
};

static const flag_table TABLE = {
    "chat",
    "Chats with a model, with its chat template. Ctrl-C stops an answer; type help for the chat commands. "
    "Without a terminal, each line of standard input is one message. With --questions, --json prints one object with "
    "all turns at the end.",
    "--model_name_or_path NAME [--questions FILE]",
    FLAGS,
    .positional = "model_name_or_path",
    .examples = EXAMPLES,
};

/* ---------------------------------------------------------------- interactive conversation */

static int show_failure(int status, bool is_final) {
    if (status == LCKV_ERROR_TOO_LONG)
        notice("%s; type clear to start a new conversation, or use --sink_cache for conversations of any length",
               lckv_last_error());
    else if (!is_final)
        notice("%s", lckv_last_error());
    if (!is_final && status != LCKV_ERROR_DEVICE && status != LCKV_ERROR_MEMORY) return EXIT_FINE;
    return status == LCKV_ERROR_TOO_LONG ? EXIT_FAILED : library_error(TABLE.command, status);
}

static bool print_text(const char *text) {
    return print_bytes(text, strlen(text)) && print_flush();
}

static int answer_message(chat *c, const char *message, bool terminal) {
    const chat_result *r;
    if (terminal) print_text("Assistant: ");
    int status = chat_answer(c, message, &r);
    print_text("\n");
    return status < 0 ? show_failure(status, false) : EXIT_FINE;
}

static int chat_loop(chat *c) {
    chat_lines *lines = chat_lines_open();
    bool terminal = chat_lines_has_terminal(lines), stopped;
    const char *line, *message;
    int code = EXIT_FINE;
    c->streams = true;
    if (terminal) notice("Type help for the commands; quit, exit or Ctrl-D to leave.");
    while (!code && !c->output_failed && (line = chat_lines_read(lines, "Human: ", &stopped))) {
        if (stopped) continue;
        chat_line_kind kind = chat_read_line(c, line, &message);
        if (kind == CHAT_EXIT) break;
        if (kind == CHAT_MESSAGE) code = answer_message(c, message, terminal);
        if (interrupted()) break;
    }
    if (!code) code = chat_lines_failure(lines);
    chat_lines_close(lines);
    return code;
}

/* ---------------------------------------------------------------- questions from a file */

static int answer_turn(chat *c, const json_t *row, const char *turn, json_t *turns) {
    const chat_result *r;
    if (c->streams && !(print_text("Human: ") && print_text(turn) && print_text("\n\nAssistant: "))) return EXIT_FAILED;
    int status = chat_answer(c, turn, &r);
    if (status < 0) return show_failure(status, true);
    if (c->streams) print_text("\n\n");
    if (r->interrupted) return EXIT_INTERRUPTED;
    json_t *id = json_object_get(row, "question_id");
    json_array_append_new(turns, json_pack("{s:O, s:s, s:o, s:I, s:I, s:I}", "question_id", id ? id : json_null(),
                                           "prompt", turn, "answer", json_stringn(r->text, r->bytes), "prompt_tokens",
                                           (json_int_t)r->prompt_tokens, "cached_tokens", (json_int_t)r->cached_tokens,
                                           "new_tokens", (json_int_t)r->new_tokens));
    return c->output_failed ? EXIT_FAILED : EXIT_FINE;
}

static int answer_row(chat *c, const char *path, int number, const char *line, json_t *turns) {
    json_error_t error;
    json_t *row = parse_json(line, strlen(line), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    const json_t *questions = json_object_get(row, "turns");
    int code = EXIT_FINE;
    if (!row) code = failure(TABLE.command, "%s: line %d: not JSON: %s", path, number, error.text);
    if (row && !json_is_array(questions))
        code = failure(TABLE.command, "%s: line %d: expected 'turns', a list", path, number);
    for (size_t i = 0; i < json_array_size(questions) && !code; i++) {
        const json_t *turn = json_array_get(questions, i);
        const char *text = json_string_value(turn);
        bool valid = text && strlen(text) == json_string_length(turn);
        code = valid ? answer_turn(c, row, text, turns)
                     : failure(TABLE.command, "%s: line %d: expected every turn to be a string%s", path, number,
                               text ? " without NUL (\\u0000)" : "");
    }
    json_decref(row);
    return code;
}

static int answer_file(chat *c, const struct options *o) {
    char why[INPUT_REASON_BYTES];
    FILE *stream = open_input(o->questions, why);
    char *line = NULL;
    size_t capacity = 0;
    int code = EXIT_FINE;
    if (!stream) return failure(TABLE.command, "cannot read '%s': %s", o->questions, why);
    json_t *turns = need(json_array());
    c->streams = !o->json;
    for (int number = 1; !code && read_line(TABLE.command, o->questions, stream, &line, &capacity, &code) >= 0;
         number++)
        if (line[strspn(line, " \t\r\n")]) code = answer_row(c, o->questions, number, line, turns);
    if (!code && o->json) {
        json_t *all = need(json_pack("{s:O}", "turns", turns));
        print_json(all);
        json_decref(all);
    }
    json_decref(turns);
    free(line);
    fclose(stream);
    return code;
}

/* ---------------------------------------------------------------- the command */

static int find_eos(const struct options *o, chat *c) {
    c->eos_ids = need(calloc((size_t)o->eos_tokens.count + 1, sizeof *c->eos_ids));
    for (int i = 0; i < o->eos_tokens.count; i++) {
        int32_t id = lckv_tokenizer_token_to_id(c->tokenizer, o->eos_tokens.items[i]);
        if (id < 0)
            return usage_error(TABLE.command, "--eos_tokens: the tokenizer has no token '%s'", o->eos_tokens.items[i]);
        c->eos_ids[c->eos_count++] = id;
    }
    return EXIT_FINE;
}

static int open_template(const struct options *o, chat *c) {
    int code = open_chat_template(TABLE.command, &o->model, o->chat_template, &c->chat_template);
    if (!code && !c->chat_template)
        notice("the checkpoint has no chat template; using lines that start with Human: and Assistant:");
    return code;
}

/* On a CPU, uses short prefill chunks: a turn adds a few hundred tokens, and shares only whole chunks with the one
 * before. On a GPU, a short chunk takes about as long as a large one. */
static int open_engine(const struct options *o, const opened_model *m, chat *c) {
    lckv_engine_options options = lckv_engine_defaults();
    lckv_device_info device = {0};
    int status = lckv_device_describe(m->device, &device);
    options.max_num_seqs = o->sink_cache ? 4 : 2; /* memory for cached prefixes, besides the running sequence */
    options.prefill_chunk_size = strcmp(device.name, "cpu") == 0 ? 64 : 0;
    options.window_length = o->sink_cache ? o->window_length : 0;
    options.num_sink_tokens = o->num_sink_tokens;
    options.bf16 = o->bf16;
    options.kv_dtype = kv_dtype_name(o->model.kv_dtype);
    options.callback = chat_on_event;
    options.user = c;
    if (status >= 0) status = lckv_engine_create(m->model, m->tokenizer, &options, &c->engine);
    return status < 0 ? library_error(TABLE.command, status) : EXIT_FINE;
}

static int check(struct options *o) {
    if (o->use_cpu) o->model.device = "cpu";
    if (o->json && !o->questions) return usage_error(TABLE.command, "--json requires --questions");
    return o->sink_cache ? check_sink_cache(TABLE.command, o->num_sink_tokens, o->window_length) : EXIT_FINE;
}

static void close_chat(chat *c) {
    lckv_engine_free(c->engine);
    lckv_chat_template_free(c->chat_template);
    free(c->eos_ids);
    free(c->system_prompt);
    free(c->initial_system_prompt);
    json_decref(c->messages);
    json_decref(c->examples);
    free(c->result.text);
}

static int run(struct options *o) {
    opened_model m = {0};
    chat c = {.model_name = o->model.name, .settings = o->settings, .initial_settings = o->settings};
    bool has_system_prompt = o->system_prompt && *o->system_prompt;
    c.messages = need(json_array());
    c.system_prompt = has_system_prompt ? need(strdup(o->system_prompt)) : NULL;
    c.initial_system_prompt = has_system_prompt ? need(strdup(o->system_prompt)) : NULL;
    int code = check(o);
    if (!code) code = chat_examples_read(TABLE.command, o->examples_path, &c.examples);
    if (!code) code = open_template(o, &c);
    if (!code) code = open_model(TABLE.command, &o->model, true, &m);
    c.tokenizer = m.tokenizer;
    if (!code) code = find_eos(o, &c);
    if (!code) code = open_engine(o, &m, &c);
    continue_after_interrupt();
    stop_on_scheduler_signals();
    if (!code) code = o->questions ? answer_file(&c, o) : chat_loop(&c);
    close_chat(&c);
    close_model(&m);
    return code;
}

static int lead(void *user) {
    return run(user);
}

static int follow(void *user) {
    struct options *o = user;
    int code = check(o);
    return code ? code : follow_model(TABLE.command, &o->model);
}

int cmd_chat(int argc, char **argv) {
    struct options options = {0};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = ranks_run(TABLE.command, argv, &options.model.ranks, 1, lead, follow, &options);
    flags_free(&TABLE, &options);
    return code;
}
