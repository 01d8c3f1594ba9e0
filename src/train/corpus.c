/* Documents of files, encoded and cut into blocks: see corpus.h. */
#include "train/corpus.h"

#include "train/documents.h"

#include <stdlib.h>

enum { DOCUMENTS_BETWEEN_CALLS = 256 };

static int add_text(const corpus_options *o, lckv_tokenizer **t, const document *d, blocks *b) {
    if (!*t) {
        REQUIRE(o->tokenizer_folder, LCKV_ERROR_ARGUMENT,
                "%s:%lld is text, and there is no tokenizer to encode it with", d->file, (long long)d->line);
        TRY(lckv_tokenizer_open(o->tokenizer_folder, t));
    }
    int32_t *ids;
    size_t count;
    TRY(lckv_tokenizer_encode(*t, d->text, d->bytes, true, &ids, &count));
    int status = blocks_add(b, ids, (int64_t)count);
    lckv_free(ids);
    return status;
}

static int add_ids(const corpus_options *o, const lckv_tokenizer *t, const document *d, blocks *b) {
    int64_t limit = t ? lckv_tokenizer_vocab_size(t) : 0;
    if (limit < o->vocab_size) limit = o->vocab_size;
    for (int64_t i = 0; i < d->id_count; i++)
        REQUIRE(d->ids[i] < limit, LCKV_ERROR_FORMAT,
                "%s:%lld: entry %lld of 'input_ids' is %d, and the vocabulary has %lld tokens", d->file,
                (long long)d->line, (long long)i, d->ids[i], (long long)limit);
    return blocks_add(b, d->ids, d->id_count);
}

static int add_documents(const corpus_options *o, document_reader *r, lckv_tokenizer **t, blocks *b) {
    document d;
    bool found;
    for (;;) {
        TRY(document_reader_next(r, &d, &found));
        if (!found) return LCKV_OK;
        TRY(d.text ? add_text(o, t, &d, b) : add_ids(o, *t, &d, b));
        if (o->go_on && b->documents % DOCUMENTS_BETWEEN_CALLS == 0 && !o->go_on(o->user, document_reader_fraction(r)))
            return fail(LCKV_ERROR_INTERRUPTED, "stopped while reading '%s'", d.file);
    }
}

static int check_blocks(const corpus_options *o, const blocks *b) {
    const char *more = o->path_count > 1 ? " and others" : "";
    REQUIRE(b->tokens, LCKV_ERROR_FORMAT, "'%s'%s: nothing to read, expected text or ids", o->paths[0], more);
    REQUIRE(b->count, LCKV_ERROR_FORMAT,
            "'%s'%s: %lld tokens in %lld documents give no block of %d tokens (each thousand documents is cut on its "
            "own); choose a smaller block_size",
            o->paths[0], more, (long long)b->tokens, (long long)b->documents, b->block_size);
    return LCKV_OK;
}

int corpus_read(const corpus_options *options, lckv_tokenizer **t, blocks *out) {
    document_reader *r;
    TRY(blocks_begin(options->block_size, out));
    TRY(document_reader_create(options->paths, options->path_count, &r));
    int status = add_documents(options, r, t, out);
    document_reader_free(r);
    blocks_finish(out);
    if (status >= 0) status = check_blocks(options, out);
    if (status < 0) blocks_free(out);
    return status;
}
