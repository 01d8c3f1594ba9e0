/* Event files of TensorBoard, read by an independent reader of the format, and by the Python package if it is
 * installed. */
#include "train/report/event_file.h"

#include "train_run_fixture.h"

/* ---------------------------------------------------------------- a reader */

static uint32_t crc32c(const unsigned char *bytes, size_t count) {
    uint32_t table[256], sum = 0xffffffffu;
    for (uint32_t b = 0; b < 256; b++) {
        table[b] = b;
        for (int bit = 0; bit < 8; bit++) table[b] = table[b] & 1 ? table[b] >> 1 ^ 0x82f63b78u : table[b] >> 1;
    }
    for (size_t i = 0; i < count; i++) sum = table[(sum ^ bytes[i]) & 255] ^ sum >> 8;
    return sum ^ 0xffffffffu;
}

static uint64_t little_endian(const unsigned char *p, int bytes) {
    uint64_t value = 0;
    while (bytes--) value = value << 8 | p[bytes];
    return value;
}

static void expect_masked_crc(const unsigned char *bytes, size_t count, const unsigned char *stored) {
    uint32_t sum = crc32c(bytes, count);
    assert_int_equal((uint32_t)((sum >> 15 | sum << 17) + 0xa282ead8u), little_endian(stored, 4));
}

/* One field of a message. */
typedef struct field {
    unsigned number;
    uint64_t value;             /* of a varint or fixed number */
    const unsigned char *bytes; /* of a string or message */
    size_t length;
} field;

static uint64_t read_varint(const unsigned char **at) {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        value |= (uint64_t)(**at & 127) << shift;
        if (!(*(*at)++ & 128)) return value;
    }
}

static bool next_field(const unsigned char **at, const unsigned char *end, field *f) {
    if (*at >= end) return false;
    uint64_t key = read_varint(at);
    *f = (field){.number = (unsigned)(key >> 3)};
    int fixed = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : 0;
    if ((key & 7) == 0) f->value = read_varint(at);
    if (fixed) f->value = little_endian(*at, fixed), *at += fixed;
    if ((key & 7) == 2) {
        f->length = read_varint(at);
        f->bytes = *at;
        *at += f->length;
    }
    assert_true(*at <= end);
    return true;
}

enum { MAX_SCALARS = 512 };

typedef struct scalar {
    int64_t step;
    char tag[64];
    float value;
} scalar;

typedef struct events {
    char version[32];
    scalar list[MAX_SCALARS];
    int count;
    int starts;
} events;

static void read_value(events *e, int64_t step, const field *value) {
    field f;
    scalar *s = &e->list[e->count++];
    assert_true(e->count < MAX_SCALARS);
    s->step = step;
    for (const unsigned char *at = value->bytes; next_field(&at, value->bytes + value->length, &f);) {
        if (f.number == 1) snprintf(s->tag, sizeof s->tag, "%.*s", (int)f.length, (const char *)f.bytes);
        if (f.number == 2) memcpy(&s->value, &f.value, sizeof s->value);
    }
}

/* As in TensorBoard, a start event discards what was recorded of its step and later ones. */
static void start_again(events *e, int64_t step) {
    int kept = 0;
    for (int i = 0; i < e->count; i++)
        if (e->list[i].step < step) e->list[kept++] = e->list[i];
    e->count = kept;
    e->starts++;
}

static void read_event(events *e, const unsigned char *bytes, size_t length) {
    int64_t step = 0;
    double wall_time = 0;
    field f, value;
    for (const unsigned char *at = bytes; next_field(&at, bytes + length, &f);) {
        if (f.number == 1) memcpy(&wall_time, &f.value, sizeof wall_time);
        if (f.number == 2) step = (int64_t)f.value;
        if (f.number == 3) snprintf(e->version, sizeof e->version, "%.*s", (int)f.length, (const char *)f.bytes);
        if (f.number == 7) start_again(e, step);
        const unsigned char *at_in = f.bytes;
        while (f.number == 5 && next_field(&at_in, f.bytes + f.length, &value)) read_value(e, step, &value);
    }
    assert_true(wall_time > 1.7e9 && wall_time < 1e11);
}

static void read_events(events *e, const char *path) {
    char *text;
    size_t bytes;
    OK(file_read(path, &text, &bytes));
    const unsigned char *at = (const unsigned char *)text, *end = at + bytes;
    while (at < end) {
        size_t length = little_endian(at, 8);
        assert_true(length < (size_t)(end - at));
        expect_masked_crc(at, 8, at + 8);
        expect_masked_crc(at + 12, length, at + 12 + length);
        read_event(e, at + 12, length);
        at += 16 + length;
    }
    assert_ptr_equal(at, end);
    free(text);
}

static int is_event_file(const struct dirent *e) {
    return !strncmp(e->d_name, "events.out.tfevents.", 20);
}

/* Reads all event files of a folder in the order of their names. Returns their number. */
static int read_folder(const char *place, events *e) {
    struct dirent **entries;
    int count = scandir(place, &entries, is_event_file, alphasort);
    *e = (events){.count = 0};
    for (int i = 0; i < count; i++) {
        char path[2 * PATH_BYTES];
        snprintf(path, sizeof path, "%.500s/%.200s", place, entries[i]->d_name);
        read_events(e, path);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    return count;
}

static const scalar *find(const events *e, const char *tag, int64_t step) {
    const scalar *found = NULL;
    for (int i = 0; i < e->count; i++) {
        if (e->list[i].step != step || strcmp(e->list[i].tag, tag)) continue;
        if (found) fail_msg("%s of step %lld is there twice", tag, (long long)step);
        found = &e->list[i];
    }
    if (!found) fail_msg("there is no %s of step %lld", tag, (long long)step);
    return found;
}

/* ---------------------------------------------------------------- files */

static void sums_are_castagnolis(void **state) {
    (void)state;
    assert_int_equal(crc32c((const unsigned char *)"123456789", 9), 0xe3069283u); /* the check value of CRC-32C */
}

static void what_is_written_is_read_back(void **state) {
    folder *r = *state;
    event_file file;
    events *e = calloc(1, sizeof *e);
    const char *place = in(r, "a/b");
    OK(event_file_create(place, 0, &file));
    OK(event_file_scalar(&file, 1, "train/loss", 2.5));
    OK(event_file_scalar(&file, INT64_MAX, "train/loss", -1e-3));
    OK(event_file_scalar(&file, 300, "a tag of many bytes, 0123456789 0123456789 0123456789 012", NAN));
    assert_int_equal(read_folder(place, e), 1); /* while it is open */
    event_file_close(&file);
    assert_string_equal(e->version, "brain.Event:2");
    assert_int_equal(e->starts, 1);
    assert_int_equal(e->count, 3);
    assert_true(find(e, "train/loss", 1)->value == 2.5f);
    assert_true(find(e, "train/loss", INT64_MAX)->value == (float)-1e-3);
    assert_true(isnan(e->list[2].value));
    free(e);
}

static void a_folder_that_cannot_be_made_is_named(void **state) {
    folder *r = *state;
    event_file file;
    const char *in_the_way = put_text_in(r, "file", "");
    char place[PATH_BYTES];
    snprintf(place, sizeof place, "%.400s/runs", in_the_way);
    FAILS(event_file_create(place, 0, &file), LCKV_ERROR_FILE, "file");
}

/* ---------------------------------------------------------------- runs */

static void begin(run *t, void **state) {
    run_begin(t, state);
    use_validation(t, 5);
    t->options.max_steps = 6;
    t->options.logging_steps = 2;
    t->options.eval_strategy = LCKV_INTERVAL_STEPS;
    t->options.eval_steps = t->options.save_steps = 3;
    t->options.tensorboard = true;
}

static void expect_story(const run *t, const events *e) {
    for (int step = 2; step <= 6; step += 2) {
        double mean = (t->story.steps[step - 2].loss + t->story.steps[step - 1].loss) / 2;
        assert_true(fabs((double)find(e, "train/loss", step)->value - mean) < 1e-6 * mean);
        assert_true(find(e, "train/grad_norm", step)->value == (float)t->story.steps[step - 1].grad_norm);
        assert_true(find(e, "train/learning_rate", step)->value == 0.01f);
        assert_true(find(e, "train/epoch", step)->value == (float)step / 3);
        assert_true(find(e, "train/tokens_per_second", step)->value > 0);
    }
    assert_true(isfinite(find(e, "eval/loss", 3)->value));
    assert_true(find(e, "eval/loss", 6)->value == (float)t->result.eval_loss);
    assert_true(find(e, "eval/accuracy", 6)->value == (float)t->result.eval_accuracy);
    assert_true(find(e, "train/train_loss", 6)->value == (float)t->result.train_loss);
}

static void a_run_has_the_tags_of_transformers(void **state) {
    run t;
    events *e = calloc(1, sizeof *e);
    begin(&t, state);
    OK(run_go(&t));
    assert_int_equal(read_folder(in(t.folder, "out/runs"), e), 1);
    expect_story(&t, e);
    free(e);
}

static void a_run_that_goes_on_doubles_nothing(void **state) {
    run whole, t;
    events *e = calloc(1, sizeof *e);
    begin(&whole, state);
    whole.options.tensorboard = false;
    OK(run_go(&whole));
    assert_false(folder_exists(in(whole.folder, "out/runs")));
    begin(&t, state);
    use_output(&t, "parts");
    t.options.logging_dir = in(t.folder, "logs");
    t.options.run_name = "first";
    t.story.stop_after = 5;
    FAILS(run_go(&t), LCKV_ERROR_INTERRUPTED, "");
    remove_tree(in(t.folder, "parts/checkpoint-5")); /* it resumes from 3 and repeats 4 and 5 */
    t.story.stop_after = 0;
    OK(run_go(&t));
    assert_int_equal(read_folder(in(t.folder, "logs/first"), e), 2);
    assert_int_equal(e->starts, 2);
    whole.result = t.result;
    expect_story(&whole, e);
    free(e);
}

/* ---------------------------------------------------------------- TensorBoard itself */

static const char SCRIPT[] = "import sys\n"
                             "try:\n"
                             "    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
                             "except ImportError:\n"
                             "    sys.exit(77)\n"
                             "events = EventAccumulator(sys.argv[1]).Reload()\n"
                             "for tag in sorted(events.Tags()['scalars']):\n"
                             "    print(tag, ' '.join('%d:%.9g' % (e.step, e.value) for e in events.Scalars(tag)))\n";

static void tensorboard_reads_it(void **state) {
    run t;
    char command[4 * PATH_BYTES], *found;
    size_t bytes;
    begin(&t, state);
    t.story.stop_after = 5;
    FAILS(run_go(&t), LCKV_ERROR_INTERRUPTED, "");
    remove_tree(in(t.folder, "out/checkpoint-5"));
    t.story.stop_after = 0;
    OK(run_go(&t));
    const char *script = put_text_in(t.folder, "read.py", SCRIPT), *answer = in(t.folder, "answer");
    snprintf(command, sizeof command, "python3 '%s' '%s/runs' >'%s' 2>/dev/null", script, t.options.output_dir, answer);
    int code = system(command);
    if (code == 127 << 8 || code == 77 << 8) {
        print_message("skipped: there is no python package tensorboard\n");
        skip();
    }
    assert_int_equal(code, 0);
    OK(file_read(answer, &found, &bytes));
    const char *line = strstr(found, "eval/loss 3:");
    assert_non_null(line);
    float loss;
    assert_int_equal(sscanf(line, "eval/loss 3:%*f 6:%f", &loss), 1);
    assert_true(loss == (float)t.result.eval_loss);
    assert_non_null(strstr(found, "train/learning_rate 2:0.00999999978 4:0.00999999978 6:0.00999999978\n"));
    free(found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_castagnolis),           IN_FOLDER(what_is_written_is_read_back),
        IN_FOLDER(a_folder_that_cannot_be_made_is_named), IN_FOLDER(a_run_has_the_tags_of_transformers),
        IN_FOLDER(a_run_that_goes_on_doubles_nothing),    IN_FOLDER(tensorboard_reads_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
