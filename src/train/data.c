/* The data of a training run, see data.h. */
#include "train/data.h"

#include "config/model_path.h"
#include "train/corpus.h"
#include "train/sources.h"

#include <math.h>
#include <stdlib.h>

static bool tell_reading(void *user, double fraction) {
    const lckv_trainer *t = user;
    lckv_train_progress p = {.phase = LCKV_TRAIN_READING, .fraction = fraction};
    return !t->callback || t->callback(t->user, &p);
}

/* ---------------------------------------------------------------- which documents */

/* What the options say of any files. */
static corpus_options corpus_of(const lckv_train_options *o, const char *const *paths, int count) {
    return (corpus_options){
        .paths = paths,
        .path_count = count,
        .documents = {o->keep_linebreaks, o->text_column, o->ids_dtype == LCKV_IDS_UINT32 ? 4 : 2},
        .append_eos = o->append_eos,
        .cache_folder = o->token_cache_dir,
        .threads = (int)o->preprocessing_num_workers,
    };
}

static int read_files(lckv_trainer *t, const lckv_train_options *o, const char *const *paths, int count,
                      token_store *out) {
    corpus_options corpus = corpus_of(o, paths, count);
    corpus.overwrite_cache = o->overwrite_cache && t->exchange->rank == 0; /* once is enough */
    corpus.vocab_size = t->config->vocab_size;
    corpus.tokenizer_folder = t->tokenizer_folder;
    corpus.go_on = tell_reading;
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

/* ---------------------------------------------------------------- which blocks */

/* run_clm.py: what the model was made for, but no more than 1024 unless asked for. */
int32_t train_data_block_size(const lckv_trainer *t, const lckv_train_options *o) {
    int64_t most = t->config->max_position_embeddings;
    return (int32_t)(o->block_size ? o->block_size : most < 1024 ? most : 1024);
}

/* `file` is one of them, for the message. */
static int check_blocks(const lckv_train_options *o, const blocks *b, const char *file) {
    REQUIRE(b->count, LCKV_ERROR_FORMAT,
            "'%s'%s: %lld tokens in %lld documents give no block of %d tokens%s; choose a smaller block_size", file,
            splits(o) ? ", a part of it" : "", (long long)b->tokens, (long long)b->documents, b->block_size,
            o->group_all ? "" : " (each thousand documents is cut on its own, unless group_all is set)");
    return LCKV_OK;
}

static int cut_train(lckv_trainer *t, const lckv_train_options *o, int64_t first) {
    block_rules rules = {train_data_block_size(t, o), o->group_all, o->max_train_samples};
    TRY(blocks_cut(&t->train_ids, first, t->train_ids.documents - first, &rules, &t->train));
    return check_blocks(o, &t->train, o->train_files[0]);
}

static int cut_validation(lckv_trainer *t, const lckv_train_options *o, const token_store *ids, int64_t documents) {
    block_rules rules = {train_data_block_size(t, o), o->group_all, o->max_eval_samples};
    TRY(blocks_cut(ids, 0, documents, &rules, &t->validation));
    return check_blocks(o, &t->validation, splits(o) ? o->train_files[0] : o->validation_files[0]);
}

/* `o` names files alone. */
static int read_and_cut(lckv_trainer *t, const lckv_train_options *o) {
    int64_t split = 0;
    if (o->do_train || splits(o)) {
        TRY(read_files(t, o, o->train_files, o->train_file_count, &t->train_ids));
        split = split_documents(o, t->train_ids.documents);
    }
    if (o->do_train) TRY(cut_train(t, o, split));
    if (!o->do_eval) return LCKV_OK;
    if (splits(o)) return cut_validation(t, o, &t->train_ids, split);
    if (!o->validation_file_count) return LCKV_OK;
    TRY(read_files(t, o, o->validation_files, o->validation_file_count, &t->validation_ids));
    return cut_validation(t, o, &t->validation_ids, t->validation_ids.documents);
}

/* Files that are named go before those of the data set. */
static int find_sources(const lckv_train_options *o, source_list *train, source_list *validation) {
    source_list ours[2] = {0};
    TRY(sources_add(o->train_files, o->train_file_count, train));
    TRY(sources_add(o->validation_files, o->validation_file_count, validation));
    if (!o->dataset_name) return LCKV_OK;
    int status = sources_of_dataset(o->dataset_name, o->dataset_config_name, &ours[0], &ours[1]);
    if (status >= 0 && !train->count) status = sources_add((const char *const *)ours[0].paths, ours[0].count, train);
    if (status >= 0 && !validation->count)
        status = sources_add((const char *const *)ours[1].paths, ours[1].count, validation);
    source_list_free(&ours[0]);
    source_list_free(&ours[1]);
    return status;
}

/* What the options check cannot know of a data set. */
static int check_parts(const lckv_train_options *o) {
    bool split = splits(o);
    REQUIRE((!o->do_train && !split) || o->train_file_count, LCKV_ERROR_FILE,
            "the data set '%s' has no files for training", o->dataset_name);
    REQUIRE(o->eval_strategy == LCKV_INTERVAL_NO || o->validation_file_count || split, LCKV_ERROR_FILE,
            "the data set '%s' has no files for validation, and eval_strategy needs them; validation_split_percentage "
            "takes a part of the others",
            o->dataset_name);
    REQUIRE(o->do_train || o->validation_file_count || split, LCKV_ERROR_FILE,
            "the data set '%s' has no files for validation: there is nothing to do", o->dataset_name);
    return LCKV_OK;
}

int train_data_read(lckv_trainer *t, const lckv_train_options *o) {
    source_list train = {0}, validation = {0};
    lckv_train_options found = *o;
    int status = find_sources(o, &train, &validation);
    found.train_files = (const char *const *)train.paths;
    found.train_file_count = train.count;
    found.validation_files = (const char *const *)validation.paths;
    found.validation_file_count = validation.count;
    if (status >= 0) status = check_parts(&found);
    if (status >= 0) status = read_and_cut(t, &found);
    source_list_free(&train);
    source_list_free(&validation);
    return status;
}

void train_data_free(lckv_trainer *t) {
    blocks_free(&t->train);
    blocks_free(&t->validation);
    token_store_close(&t->train_ids);
    token_store_close(&t->validation_ids);
}

/* ---------------------------------------------------------------- encoding alone */

static bool tell_alone(void *user, double fraction) {
    const lckv_train_options *o = user;
    lckv_train_progress p = {.phase = LCKV_TRAIN_READING, .fraction = fraction};
    return !o->callback || o->callback(o->user, &p);
}

static int tokenize_in(const lckv_train_options *o, const source_list *files, const char *folder, lckv_tokenized *out) {
    lckv_tokenizer *t = NULL;
    token_store s;
    corpus_options corpus = corpus_of(o, (const char *const *)files->paths, files->count);
    corpus.tokenizer_folder = folder;
    corpus.overwrite_cache = o->overwrite_cache;
    corpus.vocab_size = INT32_MAX; /* there is no model to ask */
    corpus.go_on = tell_alone;
    corpus.user = (void *)(uintptr_t)o;
    int status = corpus_open(&corpus, &t, &s, &out->path);
    lckv_tokenizer_free(t);
    TRY(status);
    out->documents = s.documents;
    out->tokens = s.tokens;
    token_store_close(&s);
    return LCKV_OK;
}

int lckv_tokenize(const lckv_train_options *o, lckv_tokenized *out) {
    char *folder = NULL;
    *out = (lckv_tokenized){0};
    REQUIRE(o->train_files && o->train_file_count > 0, LCKV_ERROR_ARGUMENT, "expected a train_file, found none");
    if (o->tokenizer_name) TRY(model_path_resolve(o->tokenizer_name, &folder));
    source_list files = {0};
    int status = sources_add(o->train_files, o->train_file_count, &files);
    if (status >= 0) status = tokenize_in(o, &files, folder, out);
    source_list_free(&files);
    free(folder);
    return status;
}
