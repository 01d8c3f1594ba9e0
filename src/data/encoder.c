/* Encoding documents in several threads, see encoder.h. */
#include "data/encoder.h"

#include "base/log.h"
#include "base/text/text_buffer.h"
#include "base/text/utf8.h"
#include "text/subword/id_list.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PIECE_BYTES = 1 << 16,
    PIECE_DOCUMENTS = 1000,
    PIECES_PER_THREAD = 4,
    MESSAGE_BYTES = 600,
    PLACE_BYTES = 256,
    MAX_THREADS = 16
};

/* A document of a piece: where its text or its ids end in those of the piece. */
typedef struct piece_document {
    size_t text_end;
    int64_t given_end;
    bool is_text, goes_on;
} piece_document;

/* Some hundred documents, which one thread encodes. */
typedef struct piece {
    text_buffer text;
    id_list given; /* ids of documents that are ids already */
    piece_document documents[PIECE_DOCUMENTS];
    int count;
    bool has_text;
    id_list ids; /* result */
    int64_t ends[PIECE_DOCUMENTS];
    char where[PLACE_BYTES]; /* file and line of the first document */
    int ill_formed;          /* number of texts that are not valid UTF-8 */
    int status;
    char message[MESSAGE_BYTES];
} piece;

/* Pieces that are read together and encoded in parallel. */
typedef struct batch {
    piece *pieces; /* [piece_count of the encoder] */
    int count;
    int status; /* of reading */
    char message[MESSAGE_BYTES];
} batch;

typedef struct encoder {
    const corpus_options *options;
    document_reader *reader;
    lckv_tokenizer **first;              /* of thread 0; the caller's */
    lckv_tokenizer *others[MAX_THREADS]; /* of the other threads; entry 0 is not used */
    int threads, piece_count;
    batch batches[2];
    bool has_text, at_end;
    int64_t ill_formed;              /* number of written texts that are not valid UTF-8 */
    char ill_formed_at[PLACE_BYTES]; /* a place shortly before the first of them */
} encoder;

/* ---------------------------------------------------------------- reading */

static int need_tokenizer(encoder *e, const document *d) {
    const corpus_options *o = e->options;
    lckv_tokenizer **t = e->first;
    if (!*t) {
        REQUIRE(o->tokenizer_folder, LCKV_ERROR_ARGUMENT, "%s:%lld: the document is text, but there is no tokenizer",
                d->file, (long long)d->line);
        TRY(lckv_tokenizer_open(o->tokenizer_folder, t));
    }
    REQUIRE(!o->append_eos || lckv_tokenizer_eos_id(*t) >= 0, LCKV_ERROR_ARGUMENT,
            "append_eos: the tokenizer of '%s' has no EOS token", o->tokenizer_folder);
    e->has_text = true;
    return LCKV_OK;
}

static int bad_id(const document *d, int64_t i, int64_t limit) {
    if (!d->line)
        return fail(LCKV_ERROR_FORMAT, "%s: id %lld is %d, but the vocabulary has %lld tokens", d->file,
                    (long long)(d->before + i), d->ids[i], (long long)limit);
    return fail(LCKV_ERROR_FORMAT, "%s:%lld: entry %lld of 'input_ids' is %d, but the vocabulary has %lld tokens",
                d->file, (long long)d->line, (long long)i, d->ids[i], (long long)limit);
}

static int check_ids(const encoder *e, const document *d) {
    int64_t limit = *e->first ? lckv_tokenizer_vocab_size(*e->first) : 0;
    if (limit < e->options->vocab_size) limit = e->options->vocab_size;
    for (int64_t i = 0; i < d->id_count; i++)
        if (d->ids[i] >= limit) return bad_id(d, i, limit);
    return LCKV_OK;
}

static int add_document(encoder *e, piece *p, const document *d) {
    if (d->text) {
        TRY(need_tokenizer(e, d));
        TRY(text_append(&p->text, d->text, d->bytes));
        p->has_text = true;
    } else {
        TRY(check_ids(e, d));
        TRY(id_list_append(&p->given, d->ids, (size_t)d->id_count));
    }
    if (!p->count) snprintf(p->where, sizeof p->where, "%.200s:%lld", d->file, (long long)d->line);
    p->documents[p->count++] = (piece_document){p->text.length, (int64_t)p->given.count, d->text != NULL, d->goes_on};
    return LCKV_OK;
}

static bool is_full(const piece *p) {
    return p->count == PIECE_DOCUMENTS || p->text.length >= PIECE_BYTES || p->given.count >= PIECE_BYTES;
}

static void empty(piece *p) {
    p->text.length = p->given.count = p->ids.count = 0;
    p->count = p->ill_formed = 0;
    p->has_text = false;
    p->status = LCKV_OK;
}

static int read_pieces(encoder *e, batch *b) {
    document d;
    bool found;
    for (b->count = 0; b->count < e->piece_count && !e->at_end; b->count++) {
        piece *p = &b->pieces[b->count];
        empty(p);
        while (!is_full(p)) {
            TRY(document_reader_next(e->reader, &d, &found));
            e->at_end = !found;
            if (!found) break;
            TRY(add_document(e, p, &d));
        }
    }
    return LCKV_OK;
}

/* Error messages are per thread, so this one is copied for the caller's thread. */
static void read_batch(encoder *e, batch *b) {
    b->status = read_pieces(e, b);
    if (b->status < 0) snprintf(b->message, sizeof b->message, "%s", lckv_last_error());
}

/* ---------------------------------------------------------------- encoding */

static int tokenizer_of(encoder *e, int thread, lckv_tokenizer **t) {
    if (thread && !e->others[thread]) TRY(lckv_tokenizer_open(e->options->tokenizer_folder, &e->others[thread]));
    *t = thread ? e->others[thread] : *e->first;
    return LCKV_OK;
}

static int encode_text(const encoder *e, lckv_tokenizer *t, const char *text, size_t bytes, piece *p) {
    int32_t *ids, eos = lckv_tokenizer_eos_id(t);
    size_t count;
    if (!utf8_valid(text, bytes)) p->ill_formed++;
    TRY(lckv_tokenizer_encode(t, text, bytes, true, &ids, &count));
    bool lacks_eos = e->options->append_eos && (!count || ids[count - 1] != eos);
    int status = id_list_append(&p->ids, ids, count);
    if (status >= 0 && lacks_eos) status = id_list_append(&p->ids, &eos, 1);
    lckv_free(ids);
    return status;
}

/* Ids number `begin` and following. A list without ids has no array to point into. */
static const int32_t *ids_from(const id_list *list, int64_t begin) {
    return list->ids ? list->ids + begin : NULL;
}

static int encode_documents(encoder *e, int thread, piece *p) {
    lckv_tokenizer *t = NULL;
    size_t text = 0;
    int64_t given = 0;
    if (p->has_text) TRY(tokenizer_of(e, thread, &t));
    for (int i = 0; i < p->count; i++) {
        const piece_document *d = &p->documents[i];
        TRY(d->is_text ? encode_text(e, t, p->text.data + text, d->text_end - text, p)
                       : id_list_append(&p->ids, ids_from(&p->given, given), (size_t)(d->given_end - given)));
        text = d->text_end;
        given = d->given_end;
        p->ends[i] = (int64_t)p->ids.count;
    }
    return LCKV_OK;
}

static void encode_piece(encoder *e, int thread, piece *p) {
    p->status = encode_documents(e, thread, p);
    if (p->status < 0) snprintf(p->message, sizeof p->message, "near %s: %s", p->where, lckv_last_error());
}

/* The work of the threads: encoding the pieces of one batch, and reading the next batch. */
typedef struct work {
    encoder *encoder;
    batch *now, *next;
    atomic_int taken; /* next task; 0: reading, i: piece i - 1 */
} work;

typedef struct worker {
    work *work;
    int index;
    pthread_t thread;
    bool runs;
} worker;

static void *do_work(void *user) {
    const worker *me = user;
    work *w = me->work;
    for (int i = atomic_fetch_add(&w->taken, 1); i <= w->now->count; i = atomic_fetch_add(&w->taken, 1)) {
        if (i == 0)
            read_batch(w->encoder, w->next);
        else
            encode_piece(w->encoder, me->index, &w->now->pieces[i - 1]);
    }
    return NULL;
}

/* Encodes a batch while one of the threads reads the next. If a thread cannot be created, the others do its work. */
static void encode_batch(encoder *e, batch *now, batch *next) {
    work w = {.encoder = e, .now = now, .next = next};
    worker workers[MAX_THREADS];
    for (int i = 0; i < e->threads; i++) workers[i] = (worker){.work = &w, .index = i};
    for (int i = 1; i < e->threads; i++)
        workers[i].runs = pthread_create(&workers[i].thread, NULL, do_work, &workers[i]) == 0;
    do_work(&workers[0]);
    for (int i = 1; i < e->threads; i++)
        if (workers[i].runs) pthread_join(workers[i].thread, NULL);
}

/* ---------------------------------------------------------------- corpus */

static int write_piece(encoder *e, const piece *p, token_writer *w) {
    if (p->status < 0) return fail(p->status, "%s", p->message);
    if (p->ill_formed && !e->ill_formed) snprintf(e->ill_formed_at, PLACE_BYTES, "%s", p->where);
    e->ill_formed += p->ill_formed;
    for (int i = 0; i < p->count; i++) {
        int64_t begin = i ? p->ends[i - 1] : 0;
        TRY(token_writer_add(w, ids_from(&p->ids, begin), p->ends[i] - begin, p->documents[i].goes_on));
    }
    return LCKV_OK;
}

static int write_batch(encoder *e, const batch *b, token_writer *w) {
    const corpus_options *o = e->options;
    if (b->status < 0) return fail(b->status, "%s", b->message);
    for (int i = 0; i < b->count; i++) TRY(write_piece(e, &b->pieces[i], w));
    if (o->go_on && b->count && !o->go_on(o->user, document_reader_fraction(e->reader)))
        return fail(LCKV_ERROR_INTERRUPTED, "stopped while reading '%s'", o->paths[0]);
    return LCKV_OK;
}

/* 2 bytes per id if all ids are known to fit. */
static int bytes_of_ids(const encoder *e) {
    int64_t id_count = *e->first ? lckv_tokenizer_vocab_size(*e->first) : 0;
    bool unknown = !*e->first && e->options->tokenizer_folder;
    if (id_count < e->options->vocab_size) id_count = e->options->vocab_size;
    return unknown || id_count > UINT16_MAX + 1 ? 4 : 2;
}

static int encode_all(encoder *e, token_writer *w) {
    int turn = 0;
    for (;; turn = !turn) {
        batch *now = &e->batches[turn], *next = &e->batches[!turn];
        if (now->status < 0 || !now->count) return write_batch(e, now, w);
        encode_batch(e, now, next);
        TRY(write_batch(e, now, w));
    }
}

/* The tokenizer reads each ill-formed part as U+FFFD. A text in another encoding, such as UTF-16, becomes noise. */
static void warn_of_ill_formed(const encoder *e, int64_t documents) {
    if (!e->ill_formed) return;
    log_message(LCKV_LOG_WARNING,
                "%lld of %lld documents are not valid UTF-8 (the first one is near %s): each ill-formed part is read "
                "as U+FFFD; convert files that are in another encoding",
                (long long)e->ill_formed, (long long)documents, e->ill_formed_at);
}

static int encode_into(encoder *e, const char *path) {
    token_writer w;
    read_batch(e, &e->batches[0]);
    TRY(token_writer_begin(path, bytes_of_ids(e), &w));
    int status = encode_all(e, &w);
    if (status >= 0 && !w.header.tokens)
        status = fail(LCKV_ERROR_FORMAT, "'%s'%s: expected text or token ids, found none", e->options->paths[0],
                      e->options->path_count > 1 ? " and others" : "");
    if (status >= 0) {
        warn_of_ill_formed(e, w.header.documents);
        return token_writer_commit(&w, e->has_text);
    }
    token_writer_abandon(&w);
    return status;
}

static void free_batch(batch *b, int count) {
    for (int i = 0; b->pieces && i < count; i++) {
        text_free(&b->pieces[i].text);
        id_list_free(&b->pieces[i].given);
        id_list_free(&b->pieces[i].ids);
    }
    free(b->pieces);
}

/* All processors, but at most MAX_THREADS: each thread has its own tokenizer, and only one of them reads. */
static int choose_threads(const corpus_options *o) {
    long threads = o->threads ? o->threads : sysconf(_SC_NPROCESSORS_ONLN);
    return threads < 1 ? 1 : threads < MAX_THREADS ? (int)threads : MAX_THREADS;
}

int encode_corpus(const corpus_options *o, lckv_tokenizer **t, const char *path) {
    encoder e = {.options = o, .first = t, .threads = choose_threads(o)};
    e.piece_count = e.threads * PIECES_PER_THREAD;
    for (int i = 0; i < 2; i++) e.batches[i].pieces = calloc((size_t)e.piece_count, sizeof(piece));
    int status =
        e.batches[0].pieces && e.batches[1].pieces ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for encoding");
    if (status >= 0) status = document_reader_create(o->paths, o->path_count, &o->documents, &e.reader);
    if (status >= 0) status = encode_into(&e, path);
    document_reader_free(e.reader);
    for (int i = 0; i < 2; i++) free_batch(&e.batches[i], e.piece_count);
    for (int i = 1; i < MAX_THREADS; i++) lckv_tokenizer_free(e.others[i]);
    return status;
}
