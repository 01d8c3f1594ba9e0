/* Fuzz target: a letter for the kind (KINDS), then a file of documents. A capital letter selects whole rows, line
 * breaks and ids of 4 bytes. */
#include "fuzz.h"

#include "data/documents/document_reader.h"

#include <ctype.h>
#include <stdio.h>

enum { MAX_DOCUMENTS = 100000 };

static const struct {
    char letter;
    const char *name;
} KINDS[] = {{'l', "d.jsonl"},  {'j', "d.json"},    {'c', "d.csv"},      {'t', "d.txt"},
             {'b', "d.bin"},    {'n', "d.npy"},     {'g', "d.jsonl.gz"}, {'z', "d.txt.zst"},
             {'x', "d.csv.xz"}, {'2', "d.npy.bz2"}, {'p', "d.parquet"}};

static const char *name_of(int letter) {
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (KINDS[i].letter == tolower(letter)) return KINDS[i].name;
    return "d.txt";
}

static size_t touch(const document *d) {
    size_t sum = 0;
    for (size_t i = 0; i < d->bytes; i++) sum += (unsigned char)d->text[i];
    for (int64_t i = 0; i < d->id_count; i++) FUZZ_CHECK(d->ids[i] >= 0);
    return sum;
}

static int read_all(document_reader *r) {
    document d;
    bool found = true;
    int status = LCKV_OK;
    for (int i = 0; found && status >= 0 && i < MAX_DOCUMENTS; i++) {
        status = document_reader_next(r, &d, &found);
        if (status < 0 || !found) break;
        FUZZ_CHECK((d.text != NULL) + (d.ids != NULL) + (d.row != NULL) <= 1 && touch(&d) <= 255 * d.bytes);
    }
    double fraction = document_reader_fraction(r);
    FUZZ_CHECK(fraction >= 0 && fraction <= 1);
    return status;
}

int fuzz_run(const uint8_t *data, size_t size) {
    fuzz_part rest = fuzz_all(data, size);
    char letter = size ? rest.data[0] : 't';
    document_options options = {.keep_linebreaks = isupper((unsigned char)letter),
                                .whole_rows = isupper((unsigned char)letter),
                                .id_bytes = isupper((unsigned char)letter) ? 4 : 2};
    document_reader *r;
    fuzz_clear();
    if (size) rest = (fuzz_part){rest.data + 1, rest.size - 1};
    const char *path = fuzz_put(name_of((unsigned char)letter), rest);
    int status = document_reader_create(&path, 1, &options, &r);
    status = fuzz_end(status, !r);
    if (status >= 0) status = fuzz_end(read_all(r), true);
    document_reader_free(r);
    return status;
}
