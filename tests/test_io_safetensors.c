/* safetensors files: writing and reading, and invalid files. */
#define _GNU_SOURCE /* memfd_create */
#include "base/rng.h"
#include "io/tensors/safetensors.h"

#include "bad_files/safetensors.h"
#include "folder_fixture.h"

#include <sys/mman.h>

/* ---------------------------------------------------------------- files from pieces */

/* Length, header, zeros. */
static size_t build(const char *header, uint64_t length, size_t data_bytes, unsigned char *out) {
    size_t header_bytes = strlen(header);
    for (int i = 0; i < 8; i++) out[i] = (unsigned char)(length >> (8 * i));
    memcpy(out + 8, header, header_bytes);
    memset(out + 8 + header_bytes, 0, data_bytes);
    return 8 + header_bytes + data_bytes;
}

static void open_built(const folder *f, const char *header, size_t data_bytes, safetensors_file *file) {
    unsigned char bytes[4096];
    put(in(f, "x.safetensors"), bytes, build(header, strlen(header), data_bytes, bytes));
    OK(safetensors_open(in(f, "x.safetensors"), file));
}

static void reads_what_the_format_allows(void **state) {
    safetensors_file file;
    open_built(
        *state,
        "{\"__metadata__\":{\"format\":\"pt\"},\"scalar\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[3,11]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4294967296,4294967296],\"data_offsets\":[3,3]},"
        "\"odd\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3],\"more\":1},"
        "\"last\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[11,15]}}   ",
        15, &file);
    assert_int_equal(file.count, 4);
    const safetensors_entry *e = safetensors_find(&file, "scalar");
    assert_int_equal(e->dimensions, 0);
    assert_int_equal(e->elements, 1);
    assert_int_equal(e->type, DTYPE_I64);
    e = safetensors_find(&file, "empty");
    assert_true(e->dimensions == 3 && e->elements == 0 && e->bytes == 0);
    e = safetensors_find(&file, "odd");
    assert_int_equal(e->type, DTYPE_COUNT);
    assert_string_equal(e->stored_type, "BOOL");
    e = safetensors_find(&file, "last");
    assert_true(e->type == DTYPE_BF16 && e->shape[0] == 2 && e->shape[1] == 1 && e->bytes == 4);
    assert_null(safetensors_find(&file, "nothing"));
    assert_null(safetensors_find(&file, "__metadata__"));
    assert_string_equal(safetensors_metadata(&file, "format"), "pt");
    assert_null(safetensors_metadata(&file, "other"));
    safetensors_close(&file);
    open_built(*state, "{}", 0, &file);
    assert_int_equal(file.count, 0);
    assert_null(safetensors_find(&file, "x"));
    safetensors_close(&file);
}

static void refuses_bad_files(void **state) {
    unsigned char bytes[4096];
    for (size_t i = 0; i < sizeof BAD_SAFETENSORS / sizeof *BAD_SAFETENSORS; i++) {
        const bad_safetensors *bad = &BAD_SAFETENSORS[i];
        const char *path = in(*state, "bad.safetensors");
        safetensors_file file;
        put(path, bytes, build(bad->header, bad->length ? bad->length : strlen(bad->header), bad->data_bytes, bytes));
        FAILS(safetensors_open(path, &file), LCKV_ERROR_FORMAT, bad->error);
        assert_non_null(strstr(lckv_last_error(), path));
        assert_true(!file.path && !file.entries && !file.header && !file.map.data);
    }
}

static void refuses_what_is_no_file_of_that_kind(void **state) {
    safetensors_file file;
    FAILS(safetensors_open(in(*state, "none"), &file), LCKV_ERROR_FILE, "none");
    FAILS(safetensors_open(in(*state, ""), &file), LCKV_ERROR_FILE, "not a regular file");
    put_text(in(*state, "empty"), "");
    FAILS(safetensors_open(in(*state, "empty"), &file), LCKV_ERROR_FORMAT, "too short for a safetensors file: 0 bytes");
    put_text(in(*state, "short"), "1234567");
    FAILS(safetensors_open(in(*state, "short"), &file), LCKV_ERROR_FORMAT, "too short for a safetensors file: 7 bytes");
    enum { DEPTH = 100000 };
    char *deep = malloc(DEPTH + 16);
    assert_non_null(deep);
    memcpy(deep, "\xa6\x86\x01\0\0\0\0\0{\"a\":", 13); /* 100006 */
    memset(deep + 13, '[', DEPTH);
    put(in(*state, "deep"), deep, 13 + DEPTH + 1);
    FAILS(safetensors_open(in(*state, "deep"), &file), LCKV_ERROR_FORMAT, "nested more than");
    free(deep);
}

/* ---------------------------------------------------------------- writing */

struct source {
    int asked;
};

static int values_of(void *user, int index, element_range range, void *bytes) {
    (void)range;
    static const double f64[] = {1.5};
    static const float f32[] = {1, 2, 3, 4, 5, 6};
    static const uint16_t bf16[] = {0x3f80, 0x4000, 0x4040};
    struct source *s = user;
    s->asked++;
    if (index == 0) memcpy(bytes, bf16, sizeof bf16);
    if (index == 1) memcpy(bytes, f32, sizeof f32);
    if (index == 2) memcpy(bytes, "\7", 1);
    if (index == 3) memcpy(bytes, f64, sizeof f64);
    return index == 5 ? fail_message("no values today"), LCKV_ERROR_DEVICE : LCKV_OK;
}

static const safetensors_item ITEMS[] = {
    {.name = "z.bf16", .type = DTYPE_BF16, .shape = {3}, .dimensions = 1},
    {.name = "y.f32", .type = DTYPE_F32, .shape = {2, 3}, .dimensions = 2},
    {.name = "a.u8", .type = DTYPE_U8, .shape = {1}, .dimensions = 1},
    {.name = "x.f64", .type = DTYPE_F64, .dimensions = 0},
    {.name = "b.f32", .type = DTYPE_F32, .shape = {0}, .dimensions = 1},
    {.name = "fails", .type = DTYPE_F32, .shape = {1}, .dimensions = 1},
};

static void what_is_written_is_read(void **state) {
    const char *path = in(*state, "new.safetensors");
    struct source source = {0};
    new_file out;
    OK(file_begin(path, &out));
    OK(safetensors_write(&out, ITEMS, 5, values_of, &source));
    OK(file_commit(&out));
    assert_int_equal(source.asked, 4); /* one tensor is empty */
    safetensors_file file;
    OK(safetensors_open(path, &file));
    assert_int_equal(file.count, 5);
    assert_string_equal(safetensors_metadata(&file, "format"), "pt");
    size_t sizes[] = {2, 4, 1, 8, 4};
    for (int i = 0; i < 5; i++) {
        const safetensors_entry *e = safetensors_find(&file, ITEMS[i].name);
        assert_int_equal(e->type, ITEMS[i].type);
        assert_int_equal(e->dimensions, ITEMS[i].dimensions);
        assert_memory_equal(e->shape, ITEMS[i].shape, sizeof e->shape);
        assert_int_equal((uintptr_t)e->data % sizes[i], 0);
        unsigned char values[64];
        OK(values_of(&source, i, (element_range){0}, values));
        assert_memory_equal(e->data, values, e->bytes);
    }
    assert_true(safetensors_find(&file, "b.f32")->data < safetensors_find(&file, "z.bf16")->data);
    safetensors_close(&file);
    size_t count;
    char *bytes = get(path, &count);
    assert_int_equal((unsigned char)bytes[0] % 8, 0); /* the header is padded to 8, with spaces */
    assert_int_equal(bytes[8], '{');
    free(bytes);
    OK(file_begin(path, &out));
    FAILS(safetensors_write(&out, ITEMS, 6, values_of, &source), LCKV_ERROR_DEVICE, "no values today");
    file_abandon(&out);
    OK(safetensors_open(path, &file)); /* the old one */
    safetensors_close(&file);
}

/* The elements of a large tensor are asked for in parts, one after the other, unless they are computed together. */
static int64_t most_at_a_time, next_element;

static int numbers(void *user, int index, element_range range, void *bytes) {
    (void)user, (void)index;
    assert_int_equal(range.first, next_element);
    for (int64_t i = 0; i < range.count; i++) ((int32_t *)bytes)[i] = (int32_t)(range.first + i);
    if (range.count > most_at_a_time) most_at_a_time = range.count;
    next_element += range.count;
    return LCKV_OK;
}

static void large_tensors_are_written_in_parts(void **state) {
    enum { ROWS = 3001, COLS = 1001 };
    const char *path = in(*state, "large.safetensors");
    for (int whole = 0; whole < 2; whole++) {
        safetensors_item item = {
            .name = "n", .type = DTYPE_I32, .shape = {ROWS, COLS}, .dimensions = 2, .whole = whole};
        new_file out;
        safetensors_file file;
        most_at_a_time = next_element = 0;
        OK(file_begin(path, &out));
        OK(safetensors_write(&out, &item, 1, numbers, NULL));
        OK(file_commit(&out));
        assert_int_equal(next_element, ROWS * COLS);
        assert_true(whole ? most_at_a_time == ROWS * COLS : most_at_a_time <= 1 << 20);
        OK(safetensors_open(path, &file));
        for (int32_t i = 0; i < ROWS * COLS; i++) assert_memory_equal(file.entries[0].data + 4 * i, &i, 4);
        safetensors_drop(&file.entries[0]); /* the values can be read again */
        for (int32_t i = 0; i < ROWS * COLS; i += 999) assert_memory_equal(file.entries[0].data + 4 * i, &i, 4);
        safetensors_close(&file);
    }
}

static int nothing_to_say(void *user, int index, element_range range, void *bytes) {
    (void)user, (void)index;
    memset(bytes, 0, (size_t)range.count);
    return LCKV_OK;
}

static void full_disk(void **state) {
    (void)state;
    if (access("/dev/full", W_OK) != 0) SKIP("there is no /dev/full");
    new_file out = {.stream = fopen("/dev/full", "wb"), .path = strdup("full"), .partial = strdup("/dev/full")};
    assert_non_null(out.stream);
    safetensors_item item = {.name = "a", .type = DTYPE_U8, .shape = {1 << 20}, .dimensions = 1};
    FAILS(safetensors_write(&out, &item, 1, nothing_to_say, NULL), LCKV_ERROR_FILE, "No space left");
    fclose(out.stream);
    free(out.path);
    free(out.partial);
}

/* ---------------------------------------------------------------- mutations */

static const char SOUND[] = "{\"__metadata__\":{\"format\":\"pt\"},\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":["
                            "4],\"data_offsets\":[0,16]},"
                            "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[16,28]},"
                            "\"c\":{\"dtype\":\"I64\",\"shape\":[1,2],\"data_offsets\":[28,44]},"
                            "\"d\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[44,45]}}";

static uint32_t draw(uint64_t *counter, uint32_t below) {
    return (uint32_t)(rng_uniform(1, 2, (*counter)++) * below);
}

static void mutate(unsigned char *bytes, size_t header_end, uint64_t *counter) {
    static const char likely[] = "0123456789-,:[]{}\"eF \\";
    for (uint32_t changes = 1 + draw(counter, 4); changes; changes--) {
        size_t at = draw(counter, (uint32_t)header_end);
        bool any = draw(counter, 3) == 0;
        bytes[at] = any ? (unsigned char)draw(counter, 256) : (unsigned char)likely[draw(counter, sizeof likely - 1)];
    }
}

/* Reads all data of an opened file. */
static unsigned touch(const safetensors_file *file) {
    unsigned sum = 0;
    for (int i = 0; i < file->count; i++) {
        const safetensors_entry *e = &file->entries[i];
        assert_true(e->data >= file->map.data && e->bytes <= (size_t)(file->map.data + file->map.bytes - e->data));
        assert_ptr_equal(safetensors_find(file, e->name), e);
        for (size_t k = 0; k < e->bytes; k++) sum += e->data[k];
    }
    return sum;
}

/* In memory, because thousands of files on a disk take long. */
static void survives_mutations(void **state) {
    (void)state;
    enum { ROUNDS = 10000 };
    unsigned char sound[1024], bytes[1024];
    size_t count = build(SOUND, strlen(SOUND), 45, sound), header_end = 8 + strlen(SOUND);
    uint64_t counter = 0;
    int opened = 0, fd = memfd_create("mutant", MFD_CLOEXEC);
    if (fd < 0) SKIP("this system has no memfd_create");
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (access(path, F_OK) != 0) SKIP("there is no /proc");
    for (int round = 0; round < ROUNDS; round++) {
        memcpy(bytes, sound, count);
        mutate(bytes, header_end, &counter);
        size_t cut = draw(&counter, 8) == 0 ? draw(&counter, (uint32_t)count) : count;
        assert_int_equal(pwrite(fd, bytes, count, 0), count);
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        safetensors_file file;
        if (safetensors_open(path, &file) < 0) {
            assert_non_null(strstr(lckv_last_error(), path));
            continue;
        }
        assert_int_equal(touch(&file), 0); /* the data are zeros */
        safetensors_close(&file);
        opened++;
    }
    close(fd);
    assert_true(opened > 0 && opened < ROUNDS / 2); /* a changed letter of a name is valid; most changes are not */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(reads_what_the_format_allows),
        IN_FOLDER(refuses_bad_files),
        IN_FOLDER(refuses_what_is_no_file_of_that_kind),
        IN_FOLDER(what_is_written_is_read),
        IN_FOLDER(large_tensors_are_written_in_parts),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(survives_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
