/* The data of a training run, see run_data.h. */
#include "train/run_data.h"

#include "base/log.h"
#include "base/options.h"
#include "data/corpus.h"
#include "data/sources/sources.h"
#include "hub/model_path.h"
#include "train/callback.h"
#include "train/run_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- documents */

/* The options of every corpus of the run. */
static corpus_options corpus_of(const lckv_train_options *o, const char *const *paths, int count) {
    return (corpus_options){
        .paths = paths,
        .path_count = count,
        .documents = {.keep_linebreaks = o->keep_linebreaks,
                      .text_column = o->text_column,
                      .id_bytes = o->ids_dtype == LCKV_IDS_UINT32 ? 4 : 2},
        .append_eos = o->append_eos,
        .cache_folder = o->token_cache_dir,
        .threads = (int)o->preprocessing_num_workers,
    };
}

static int read_files(lckv_trainer *t, const lckv_train_options *o, const char *const *paths, int count,
                      token_store *out) {
    corpus_options corpus = corpus_of(o, paths, count);
    corpus.overwrite_cache = o->overwrite_cache && t->collectives->rank == 0; /* rank 0 encodes first */
    corpus.vocab_size = t->config->vocab_size;
    corpus.tokenizer_folder = t->origin.tokenizer_folder;
    corpus.go_on = trainer_reading;
    corpus.user = t;
    return corpus_open(&corpus, &t->tokenizer, out, NULL);
}

static bool splits(const lckv_train_options *o) {
    return !o->validation_file_count && o->validation_split_percentage > 0;
}

/* The validation part comes first, rounded as the data sets library rounds a slice in percent: a half to the even
 * number. */
static int64_t split_documents(const lckv_train_options *o, int64_t documents) {
    if (!splits(o)) return 0;
    return (int64_t)nearbyint((double)(o->validation_split_percentage * documents) / 100);
}

/* ---------------------------------------------------------------- blocks */

static void warn_of_block_size(const lckv_trainer *t, const lckv_train_options *o) {
    if (o->block_size > t->block_size)
        log_message(LCKV_LOG_WARNING,
                    "%s %lld is more than the model's %lld positions (max_position_embeddings): using %d",
                    o->tuning ? "max_seq_length" : "block_size", (long long)o->block_size,
                    (long long)t->config->positions, t->block_size);
}

/* `file` is one of the files, for the message. */
static int check_blocks(const lckv_train_options *o, const blocks *b, const char *file) {
    REQUIRE(b->examples.count, LCKV_ERROR_FORMAT,
            "'%s'%s: %lld token%s in %lld document%s %s too few for a block of %d tokens%s; use a smaller block_size",
            file, splits(o) ? " (a part of it)" : "", (long long)b->tokens, plural(b->tokens), (long long)b->documents,
            plural(b->documents), is_or_are(b->tokens), b->examples.block_size,
            o->group_all ? "" : " (each group of 1,000 documents is cut by itself, unless group_all is set)");
    return LCKV_OK;
}

static block_rules rules_of(const lckv_trainer *t, const lckv_train_options *o, int64_t limit) {
    return (block_rules){t->block_size, o->group_all, limit, o->document_mask};
}

static int cut_train(lckv_trainer *t, const lckv_train_options *o, int64_t first) {
    block_rules rules = rules_of(t, o, o->max_train_samples);
    TRY(blocks_cut(&t->train_ids, first, t->train_ids.documents - first, &rules, &t->train_blocks));
    t->train_tokens = t->train_blocks.tokens;
    return check_blocks(o, &t->train_blocks, o->train_files[0]);
}

static int cut_validation(lckv_trainer *t, const lckv_train_options *o, const token_store *ids, int64_t documents) {
    block_rules rules = rules_of(t, o, o->max_eval_samples);
    TRY(blocks_cut(ids, 0, documents, &rules, &t->validation_blocks));
    return check_blocks(o, &t->validation_blocks, splits(o) ? o->train_files[0] : o->validation_files[0]);
}

/* ---------------------------------------------------------------- weighted sources */

/* Reads NAME:WEIGHT, which is a separate corpus. */
static int read_source(lckv_trainer *t, const lckv_train_options *o, mixture_source *s, const char *name) {
    size_t length;
    source_list files = {0};
    s->name = name;
    s->weight = sources_weight(name, &length);
    char *bare = strndup(name, length);
    const char *const names[] = {bare};
    int status = bare ? sources_add(names, 1, &files) : fail(LCKV_ERROR_MEMORY, "no memory for a path");
    if (status >= 0) status = read_files(t, o, (const char *const *)files.paths, files.count, &s->ids);
    source_list_free(&files);
    free(bare);
    TRY(status);
    block_rules rules = rules_of(t, o, 0);
    TRY(blocks_cut(&s->ids, 0, s->ids.documents, &rules, &s->blocks));
    t->train_tokens += s->blocks.tokens;
    return check_blocks(o, &s->blocks, name);
}

static int read_mixture(lckv_trainer *t, const lckv_train_options *o) {
    mixture *m = &t->mixture;
    TRY(mixture_create(o->train_file_count, o->shuffle, (uint64_t)o->seed, m));
    for (int i = 0; i < m->count; i++) TRY(read_source(t, o, &m->sources[i], o->train_files[i]));
    TRY(mixture_weigh(m, o->max_train_samples));
    t->train = &m->examples;
    return LCKV_OK;
}

/* Either all sources have weights or none. */
static int check_weights(const lckv_train_options *o, bool *weighted) {
    int count = 0, without = 0;
    size_t length;
    for (int i = 0; i < o->train_file_count; i++)
        if (sources_weight(o->train_files[i], &length) > 0)
            count++;
        else
            without = i;
    *weighted = count > 0;
    REQUIRE(
        !count || count == o->train_file_count, LCKV_ERROR_ARGUMENT,
        "train_file: expected NAME:WEIGHT with a weight above 0 for all sources or for none, found '%s' without one",
        o->train_files[without]);
    REQUIRE(!count || !o->tuning, LCKV_ERROR_ARGUMENT,
            "sources with weights (train_file) are not supported for instruction data");
    REQUIRE(!count || !splits(o), LCKV_ERROR_ARGUMENT,
            "validation_split_percentage is not supported for sources with weights; set validation_file");
    return LCKV_OK;
}

/* ---------------------------------------------------------------- instruction data */

static int read_train_rows(lckv_trainer *t, const lckv_train_options *o) {
    TRY(tuning_data_rows(t, o, o->train_files, o->train_file_count, &t->train_rows));
    int64_t all = t->train_rows.count, split = split_documents(o, all);
    if (o->do_train) {
        TRY(tuning_data_set(t, o, &t->train_rows, split, all - split, o->max_train_samples, &t->train_set));
        t->train = &t->train_set.examples;
        t->train_tokens = t->train_set.tokens;
    }
    if (!o->do_eval || !splits(o)) return LCKV_OK;
    TRY(tuning_data_set(t, o, &t->train_rows, 0, split, o->max_eval_samples, &t->validation_set));
    t->validation = &t->validation_set.examples;
    return LCKV_OK;
}

static int read_validation_rows(lckv_trainer *t, const lckv_train_options *o) {
    tuning_rows *rows = &t->validation_rows;
    TRY(tuning_data_rows(t, o, o->validation_files, o->validation_file_count, rows));
    TRY(tuning_data_set(t, o, rows, 0, rows->count, o->max_eval_samples, &t->validation_set));
    t->validation = &t->validation_set.examples;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- reading and cutting */

/* Reads one corpus, of which a part may be for validation. */
static int read_train(lckv_trainer *t, const lckv_train_options *o) {
    if (!o->do_train && !splits(o)) return LCKV_OK;
    if (o->tuning) return read_train_rows(t, o);
    TRY(read_files(t, o, o->train_files, o->train_file_count, &t->train_ids));
    int64_t split = split_documents(o, t->train_ids.documents);
    if (o->do_train) TRY(cut_train(t, o, split));
    return o->do_eval && splits(o) ? cut_validation(t, o, &t->train_ids, split) : LCKV_OK;
}

static int read_validation(lckv_trainer *t, const lckv_train_options *o) {
    if (!o->do_eval || !o->validation_file_count) return LCKV_OK;
    if (o->tuning) return read_validation_rows(t, o);
    TRY(read_files(t, o, o->validation_files, o->validation_file_count, &t->validation_ids));
    return cut_validation(t, o, &t->validation_ids, t->validation_ids.documents);
}

/* Files in the options take precedence over those of the data set. Sources with weights are not expanded here. */
static int find_sources(const lckv_train_options *o, bool weighted, source_list *train, source_list *validation) {
    source_list ours[2] = {0};
    if (!weighted) TRY(sources_add(o->train_files, o->train_file_count, train));
    TRY(sources_add(o->validation_files, o->validation_file_count, validation));
    if (!o->dataset_name) return LCKV_OK;
    int status = sources_of_dataset(o->dataset_name, o->dataset_config_name, &ours[0], &ours[1]);
    if (status >= 0 && !train->count && !weighted)
        status = sources_add((const char *const *)ours[0].paths, ours[0].count, train);
    if (status >= 0 && !validation->count)
        status = sources_add((const char *const *)ours[1].paths, ours[1].count, validation);
    source_list_free(&ours[0]);
    source_list_free(&ours[1]);
    return status;
}

/* Checks that depend on the files of a data set. */
static int check_parts(const lckv_train_options *o) {
    bool split = splits(o);
    REQUIRE((!o->do_train && !split) || o->train_file_count, LCKV_ERROR_FILE,
            "the data set '%s' has no files for training", o->dataset_name);
    REQUIRE(o->eval_strategy == LCKV_INTERVAL_NO || o->validation_file_count || split, LCKV_ERROR_FILE,
            "the data set '%s' has no files for validation, which eval_strategy needs; set "
            "validation_split_percentage to split them off the training data",
            o->dataset_name);
    REQUIRE(o->do_train || o->validation_file_count || split, LCKV_ERROR_FILE,
            "the data set '%s' has no files for validation: there is nothing to do", o->dataset_name);
    return LCKV_OK;
}

int train_data_read(lckv_trainer *t, const lckv_train_options *o) {
    source_list train = {0}, validation = {0};
    lckv_train_options found = *o;
    bool weighted;
    warn_of_block_size(t, o);
    TRY(check_weights(o, &weighted));
    int status = find_sources(o, weighted, &train, &validation);
    if (!weighted) {
        found.train_files = (const char *const *)train.paths;
        found.train_file_count = train.count;
    }
    found.validation_files = (const char *const *)validation.paths;
    found.validation_file_count = validation.count;
    if (status >= 0) status = check_parts(&found);
    if (status >= 0) status = tuning_data_begin(t, &found);
    if (status >= 0 && !weighted) status = read_train(t, &found);
    if (status >= 0 && weighted && o->do_train) status = read_mixture(t, &found);
    if (status >= 0) status = read_validation(t, &found);
    if (status >= 0) status = tuning_data_choose_template(t, &found);
    source_list_free(&train);
    source_list_free(&validation);
    return status;
}

void train_data_free(lckv_trainer *t) {
    blocks_free(&t->train_blocks);
    blocks_free(&t->validation_blocks);
    mixture_free(&t->mixture);
    tuning_set_free(&t->train_set);
    tuning_set_free(&t->validation_set);
    tuning_rows_free(&t->train_rows);
    tuning_rows_free(&t->validation_rows);
    token_store_close(&t->train_ids);
    token_store_close(&t->validation_ids);
}

/* ---------------------------------------------------------------- lckv_tokenize() */

static bool report_reading(void *user, double fraction) {
    const lckv_train_options *o = user;
    return callback_reading(o->callback, o->user, fraction);
}

static int tokenize_in(const lckv_train_options *o, const source_list *files, const char *folder, lckv_tokenized *out) {
    lckv_tokenizer *t = NULL;
    token_store s;
    corpus_options corpus = corpus_of(o, (const char *const *)files->paths, files->count);
    corpus.tokenizer_folder = folder;
    corpus.overwrite_cache = o->overwrite_cache;
    corpus.vocab_size = INT32_MAX; /* no model is given */
    corpus.go_on = report_reading;
    corpus.user = (void *)(uintptr_t)o;
    int status = corpus_open(&corpus, &t, &s, &out->path);
    lckv_tokenizer_free(t);
    TRY(status);
    out->documents = s.documents;
    out->tokens = s.tokens;
    token_store_close(&s);
    return LCKV_OK;
}

int lckv_tokenize(const lckv_train_options *given, lckv_tokenized *out) {
    lckv_train_options taken;
    const lckv_train_options *o = &taken;
    char *folder = NULL;
    bool weighted;
    *out = (lckv_tokenized){0};
    TRY(OPTIONS_TAKE(&taken, given, lckv_train_defaults));
    REQUIRE(o->train_files && o->train_file_count > 0, LCKV_ERROR_ARGUMENT, "expected a train_file, found none");
    TRY(check_weights(o, &weighted));
    REQUIRE(!weighted, LCKV_ERROR_ARGUMENT,
            "lckv tokenize does not support weights: tokenize each source by itself, without its weight");
    if (o->tokenizer_name) TRY(model_path_resolve(o->tokenizer_name, &folder));
    source_list files = {0};
    int status = sources_add(o->train_files, o->train_file_count, &files);
    if (status >= 0) status = tokenize_in(o, &files, folder, out);
    source_list_free(&files);
    free(folder);
    return status;
}
