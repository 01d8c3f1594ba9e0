/* Documents of files, encoded: see corpus.h. */
#include "train/corpus.h"

enum { DOCUMENTS_BETWEEN_CALLS = 256 };

static int need_tokenizer(const corpus_options *o, const document *d, lckv_tokenizer **t) {
    if (!*t) {
        REQUIRE(o->tokenizer_folder, LCKV_ERROR_ARGUMENT,
                "%s:%lld is text, and there is no tokenizer to encode it with", d->file, (long long)d->line);
        TRY(lckv_tokenizer_open(o->tokenizer_folder, t));
    }
    REQUIRE(!o->append_eos || lckv_tokenizer_eos_id(*t) >= 0, LCKV_ERROR_ARGUMENT,
            "append_eos: the tokenizer of '%s' names no EOS token", o->tokenizer_folder);
    return LCKV_OK;
}

static int add_encoded(const corpus_options *o, const lckv_tokenizer *t, const int32_t *ids, int64_t count,
                       token_store *s) {
    int32_t eos = lckv_tokenizer_eos_id(t);
    TRY(token_store_add(s, ids, count));
    return o->append_eos && (!count || ids[count - 1] != eos) ? token_store_extend(s, &eos, 1) : LCKV_OK;
}

static int add_text(const corpus_options *o, lckv_tokenizer **t, const document *d, token_store *s) {
    int32_t *ids;
    size_t count;
    TRY(need_tokenizer(o, d, t));
    TRY(lckv_tokenizer_encode(*t, d->text, d->bytes, true, &ids, &count));
    int status = add_encoded(o, *t, ids, (int64_t)count, s);
    lckv_free(ids);
    return status;
}

static int bad_id(const document *d, int64_t i, int64_t limit) {
    if (!d->line)
        return fail(LCKV_ERROR_FORMAT, "%s: id %lld is %d, and the vocabulary has %lld tokens", d->file,
                    (long long)(d->before + i), d->ids[i], (long long)limit);
    return fail(LCKV_ERROR_FORMAT, "%s:%lld: entry %lld of 'input_ids' is %d, and the vocabulary has %lld tokens",
                d->file, (long long)d->line, (long long)i, d->ids[i], (long long)limit);
}

static int add_ids(const corpus_options *o, const lckv_tokenizer *t, const document *d, token_store *s) {
    int64_t limit = t ? lckv_tokenizer_vocab_size(t) : 0;
    if (limit < o->vocab_size) limit = o->vocab_size;
    for (int64_t i = 0; i < d->id_count; i++)
        if (d->ids[i] >= limit) return bad_id(d, i, limit);
    return d->goes_on ? token_store_extend(s, d->ids, d->id_count) : token_store_add(s, d->ids, d->id_count);
}

static int add_documents(const corpus_options *o, document_reader *r, lckv_tokenizer **t, token_store *s) {
    document d;
    bool found;
    for (;;) {
        TRY(document_reader_next(r, &d, &found));
        if (!found) return LCKV_OK;
        TRY(d.text ? add_text(o, t, &d, s) : add_ids(o, *t, &d, s));
        if (o->go_on && s->documents % DOCUMENTS_BETWEEN_CALLS == 0 && !o->go_on(o->user, document_reader_fraction(r)))
            return fail(LCKV_ERROR_INTERRUPTED, "stopped while reading '%s'", d.file);
    }
}

int corpus_read(const corpus_options *options, lckv_tokenizer **t, token_store *out) {
    document_reader *r;
    *out = (token_store){0};
    TRY(document_reader_create(options->paths, options->path_count, &options->documents, &r));
    int status = add_documents(options, r, t, out);
    document_reader_free(r);
    if (status >= 0 && !out->tokens)
        status = fail(LCKV_ERROR_FORMAT, "'%s'%s: nothing to read, expected text or ids", options->paths[0],
                      options->path_count > 1 ? " and others" : "");
    if (status < 0) token_store_free(out);
    return status;
}
