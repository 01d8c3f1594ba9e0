/* lckv tokenize: encodes and decodes text, one JSON line per text, or encodes training data in advance. */
#include "cli/flags/flags.h"
#include "cli/input.h"
#include "cli/open_model.h"
#include "cli/output/output.h"
#include "cli/output/string_json.h"
#include "cli/prompts.h"
#include "commands.h"
#include "lckv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of the flags. */
struct options {
    struct model_flags model; /* only the name of the tokenizer is used */
    const char *text, *file;  /* text to encode, or file with it; NULL: none */
    bool jsonl, decode, no_special_tokens, skip_special_tokens;
    flag_list train_files;    /* files of training data to encode */
    lckv_train_options train; /* only the data options are used */
    bool json;
};

static const flag FLAGS[] = {
    {"tokenizer_name", FLAG_TEXT, NULL, "Tokenizer", "tokenizer: a folder with tokenizer.json, or ORG/NAME",
     FLAG_INTO(struct options, model.tokenizer_name), .value = "NAME", .required = true},

    {"text", FLAG_TEXT, NULL, "Input", "text to encode", FLAG_INTO(struct options, text)},
    {"file", FLAG_TEXT, NULL, "Input", "file to encode: plain text, or JSON lines with text (.jsonl, .ndjson, .json)",
     FLAG_INTO(struct options, file), .value = "FILE"},
    {"jsonl", FLAG_SWITCH, NULL, "Input", "read JSON lines with text from standard input",
     FLAG_INTO(struct options, jsonl)},
    {"no_special_tokens", FLAG_SWITCH, NULL, "Input", "do not add special tokens such as BOS",
     FLAG_INTO(struct options, no_special_tokens)},

    {"decode", FLAG_SWITCH, NULL, "Decoding",
     "read JSON lines with ids from standard input and print {\"text\": ...} for each",
     FLAG_INTO(struct options, decode)},
    {"skip_special_tokens", FLAG_SWITCH, NULL, "Decoding", "omit special tokens from the text",
     FLAG_INTO(struct options, skip_special_tokens)},

    {"train_file", FLAG_FILES, NULL, "Data for training",
     "files to encode for lckv train with the same flags; the token ids are written to output_dir",
     FLAG_INTO(struct options, train_files), .value = "FILES"},
    {"output_dir", FLAG_TEXT, NULL, "Data for training",
     "folder for the token ids; pass it to lckv train as --token_cache_dir",
     FLAG_INTO(struct options, train.token_cache_dir), .value = "DIR"},
    {"keep_linebreaks", FLAG_SWITCH, "True", "Data for training", "keep the line break of each line of a text file",
     FLAG_INTO(struct options, train.keep_linebreaks)},
    {"text_column", FLAG_TEXT, NULL, "Data for training", "field of JSON rows or column of CSV to encode",
     FLAG_INTO(struct options, train.text_column)},
    {"ids_dtype", FLAG_CHOICE, "uint16", "Data for training", "type of the token ids in .bin files, little-endian",
     FLAG_INTO(struct options, train.ids_dtype), .choices = "uint16|uint32"},
    {"append_eos", FLAG_SWITCH, NULL, "Data for training", "append EOS to each text if the tokenizer does not",
     FLAG_INTO(struct options, train.append_eos)},
    {"overwrite_cache", FLAG_SWITCH, NULL, "Data for training",
     "encode the data again even if it is in the token cache", FLAG_INTO(struct options, train.overwrite_cache)},
    {"preprocessing_num_workers", FLAG_INT, "0", "Data for training",
     "number of encoding threads, each with its own tokenizer; 0 uses all processors, at most 16",
     FLAG_INTO(struct options, train.preprocessing_num_workers), .min = 0, .max = 4096},
    FLAG_JSON(struct options, json),
    {0},
};

static const char *const EXAMPLES[] = {
    "token ids of a text",
    "lckv tokenize --tokenizer_name data/tokenizer --text \"It is a truth universally acknowledged\"",
    "text of token ids",
    "echo '[1131,364,259]' | lckv tokenize --tokenizer_name data/tokenizer --decode",
    "encode training data in advance",
    "lckv tokenize --tokenizer_name data/tokenizer --train_file data/pride_and_prejudice.txt --output_dir encoded",
    NULL,
};

static const flag_table TABLE = {
    "tokenize",
    "Prints {\"ids\": [...]} for each text, one per line; with --decode, {\"text\": ...} for each line of ids. "
    "Invalid UTF-8 is replaced by U+FFFD. With --train_file, encodes training data in advance; which lckv train would "
    "otherwise do at its start.",
    "--tokenizer_name NAME (--text TEXT | --train_file FILES --output_dir DIR)",
    FLAGS,
    .positional = "tokenizer_name text",
    .examples = EXAMPLES,
};

static int print_result(json_t *result) {
    int code = need(result) && print_json(result) ? EXIT_FINE : EXIT_FAILED;
    json_decref(result);
    return code;
}

static int print_ids(const int32_t *ids, size_t count) {
    json_t *list = need(json_array());
    for (size_t i = 0; i < count; i++) json_array_append_new(list, json_integer(ids[i]));
    return print_result(json_pack("{s:o}", "ids", list));
}

/* ---------------------------------------------------------------- --text, --file */

static int encode_prompts(const struct options *o, lckv_tokenizer *tokenizer) {
    prompt_list list = {0};
    int code = o->text ? prompts_add_text(&list, "--text", o->text, strlen(o->text))
                       : prompts_add_file(TABLE.command, &list, o->file, false);
    if (!code) code = prompts_encode(TABLE.command, &list, tokenizer, "", !o->no_special_tokens);
    for (int i = 0; i < list.count && !code; i++) code = print_ids(list.items[i].ids, (size_t)list.items[i].count);
    prompts_free(&list);
    return code;
}

/* ---------------------------------------------------------------- --jsonl, --decode: line by line */

static int encode_row(const struct options *o, lckv_tokenizer *tokenizer, const json_t *row, int line) {
    const json_t *text = json_object_get(row, "text");
    int32_t *ids;
    size_t count;
    if (!json_is_string(text)) return failure(TABLE.command, "line %d: expected an object with text", line);
    int status = lckv_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text),
                                       !o->no_special_tokens, &ids, &count);
    if (status < 0) return library_error(TABLE.command, status);
    int code = print_ids(ids, count);
    lckv_free(ids);
    return code;
}

/* Returns the ids in a JSON array, or NULL if it is not a list of 32-bit integers. Release with free(). */
static int32_t *ids_of(const json_t *list) {
    int32_t *ids = need(malloc(json_array_size(list) * sizeof *ids + 1));
    bool valid = json_is_array(list);
    for (size_t i = 0; i < json_array_size(list) && valid; i++) {
        const json_t *id = json_array_get(list, i);
        ids[i] = (int32_t)json_integer_value(id);
        valid = json_is_integer(id) && ids[i] == json_integer_value(id);
    }
    if (valid) return ids;
    free(ids);
    return NULL;
}

static int decode_row(const struct options *o, lckv_tokenizer *tokenizer, const json_t *row, int line) {
    const json_t *list = json_object_get(row, "ids");
    int32_t *ids = ids_of(list);
    char *text;
    size_t bytes;
    if (!ids) return failure(TABLE.command, "line %d: expected an object with ids, a list of integers", line);
    int status = lckv_tokenizer_decode(tokenizer, ids, json_array_size(list), o->skip_special_tokens, &text, &bytes);
    free(ids);
    if (status < 0) return failure(TABLE.command, "line %d: %s", line, lckv_last_error());
    int code = print_result(json_pack("{s:o}", "text", json_stringn(text, bytes)));
    lckv_free(text);
    return code;
}

static int run_row(const struct options *o, lckv_tokenizer *tokenizer, const char *text, size_t length, int line) {
    json_error_t error;
    json_t *row = parse_json(text, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!row) return failure(TABLE.command, "line %d: %s", line, error.text);
    int code = o->decode ? decode_row(o, tokenizer, row, line) : encode_row(o, tokenizer, row, line);
    json_decref(row);
    return code;
}

static ssize_t next_line(char **text, size_t *room, int *code) {
    return read_line(TABLE.command, NULL, stdin, text, room, code);
}

static int run_lines(const struct options *o, lckv_tokenizer *tokenizer) {
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length;
    int code = EXIT_FINE;
    for (int line = 1; !code && !interrupted() && (length = next_line(&text, &capacity, &code)) >= 0; line++)
        if (strspn(text, " \t\r\n") < (size_t)length) code = run_row(o, tokenizer, text, (size_t)length, line);
    free(text);
    if (!code && interrupted()) return library_error(TABLE.command, LCKV_ERROR_INTERRUPTED);
    return code;
}

/* ---------------------------------------------------------------- --train_file */

static bool show_progress(void *user, const lckv_train_progress *p) {
    (void)user;
    if (progress_due()) progress(p->fraction, "encoding %.0f %%", 100 * p->fraction);
    return !interrupted();
}

static int print_summary(const struct options *o, const lckv_tokenized *encoded) {
    char tokens[32], documents[48];
    notice("%s token%s in %s, written to '%s'", human_count((double)encoded->tokens, tokens),
           encoded->tokens == 1 ? "" : "s", human_quantity(encoded->documents, "document", documents), encoded->path);
    if (!o->json) return EXIT_FINE;
    return print_result(json_pack("{sI sI so}", "documents", (json_int_t)encoded->documents, "tokens",
                                  (json_int_t)encoded->tokens, "path",
                                  string_json(encoded->path, strlen(encoded->path))));
}

static int encode_corpus(struct options *o) {
    lckv_tokenized encoded;
    if (!o->train.token_cache_dir) return usage_error(TABLE.command, "--train_file requires --output_dir");
    o->train.tokenizer_name = o->model.tokenizer_name;
    o->train.train_files = (const char *const *)o->train_files.items;
    o->train.train_file_count = o->train_files.count;
    o->train.callback = show_progress;
    stop_on_scheduler_signals();
    int status = lckv_tokenize(&o->train, &encoded);
    progress_end();
    if (status < 0) return library_error(TABLE.command, status);
    int code = print_summary(o, &encoded);
    lckv_free(encoded.path);
    return code;
}

/* ---------------------------------------------------------------- the command */

static int check(const struct options *o) {
    int sources = !!o->text + !!o->file + o->jsonl + o->decode + !!o->train_files.count;
    if (sources != 1)
        return usage_error(TABLE.command,
                           "expected exactly one of --text, --file, --jsonl, --decode and --train_file, found %d",
                           sources);
    if (o->decode && o->no_special_tokens)
        return usage_error(TABLE.command,
                           "--no_special_tokens applies to encoding; with --decode, use --skip_special_tokens");
    if (!o->decode && o->skip_special_tokens)
        return usage_error(TABLE.command,
                           "--skip_special_tokens requires --decode; for encoding, use --no_special_tokens");
    return EXIT_FINE;
}

static int tokenize(struct options *o) {
    lckv_tokenizer *tokenizer = NULL;
    int code = check(o);
    if (!code && o->train_files.count) return encode_corpus(o);
    if (!code) code = open_tokenizer(TABLE.command, &o->model, &tokenizer);
    if (!code) code = o->text || o->file ? encode_prompts(o, tokenizer) : run_lines(o, tokenizer);
    lckv_tokenizer_free(tokenizer);
    return code;
}

int cmd_tokenize(int argc, char **argv) {
    struct options options = {.train = lckv_train_defaults()};
    int code;
    if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
    code = tokenize(&options);
    flags_free(&TABLE, &options);
    return code;
}
