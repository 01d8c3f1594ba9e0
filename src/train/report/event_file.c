/* Event files of TensorBoard, see event_file.h. */
#include "train/report/event_file.h"

#include "base/files/file.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- protocol buffers */

enum { MAX_TAG_BYTES = 128, MAX_MESSAGE_BYTES = MAX_TAG_BYTES + 64 };

typedef struct message {
    unsigned char bytes[MAX_MESSAGE_BYTES];
    size_t length;
} message;

typedef enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 } wire_type;

static void put_little_endian(unsigned char *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(value >> 8 * i);
}

static void add_varint(message *m, uint64_t value) {
    for (; value >= 0x80; value >>= 7) m->bytes[m->length++] = (unsigned char)(value | 0x80);
    m->bytes[m->length++] = (unsigned char)value;
}

static void add_key(message *m, unsigned field, wire_type type) {
    add_varint(m, field << 3 | (unsigned)type);
}

static void add_fixed(message *m, unsigned field, uint64_t bits, int bytes) {
    add_key(m, field, bytes == 8 ? WIRE_64 : WIRE_32);
    put_little_endian(m->bytes + m->length, bits, bytes);
    m->length += (size_t)bytes;
}

static void add_double(message *m, unsigned field, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_fixed(m, field, bits, 8);
}

static void add_float(message *m, unsigned field, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    add_fixed(m, field, bits, 4);
}

static void add_integer(message *m, unsigned field, int64_t value) {
    add_key(m, field, WIRE_VARINT);
    add_varint(m, (uint64_t)value);
}

static void add_bytes(message *m, unsigned field, const void *bytes, size_t length) {
    add_key(m, field, WIRE_BYTES);
    add_varint(m, length);
    memcpy(m->bytes + m->length, bytes, length);
    m->length += length;
}

/* ---------------------------------------------------------------- records */

/* CRC-32C (Castagnoli, reflected). The mask keeps the checksum sound over data that contains checksums. */
static uint32_t masked_crc(const unsigned char *bytes, size_t count) {
    uint32_t sum = ~0u;
    for (size_t i = 0; i < count; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? 0x82f63b78u : 0);
    }
    sum = ~sum;
    return (sum >> 15 | sum << 17) + 0xa282ead8u;
}

static int write_record(event_file *f, const message *m) {
    unsigned char head[12], tail[4];
    put_little_endian(head, m->length, 8);
    put_little_endian(head + 8, masked_crc(head, 8), 4);
    put_little_endian(tail, masked_crc(m->bytes, m->length), 4);
    bool written = fwrite(head, sizeof head, 1, f->stream) && fwrite(m->bytes, m->length, 1, f->stream) &&
                   fwrite(tail, sizeof tail, 1, f->stream) && fflush(f->stream) == 0;
    REQUIRE(written, LCKV_ERROR_FILE, "cannot write '%s': %s", f->path, strerror(errno));
    return LCKV_OK;
}

/* ---------------------------------------------------------------- events */

/* Field numbers of event.proto and summary.proto. */
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION_LOG = 7 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE_VALUE = 2, SESSION_STATUS = 1, SESSION_START = 1 };

static double wall_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static message begin_event(int64_t step) {
    message m = {.length = 0};
    add_double(&m, EVENT_WALL_TIME, wall_time());
    add_integer(&m, EVENT_STEP, step);
    return m;
}

static int write_version(event_file *f) {
    static const char VERSION[] = "brain.Event:2";
    message m = begin_event(0);
    add_bytes(&m, EVENT_FILE_VERSION, VERSION, sizeof VERSION - 1);
    return write_record(f, &m);
}

/* A reader discards what it has of this step and later ones. */
static int write_start(event_file *f, int64_t step) {
    message start = {.length = 0}, m = begin_event(step);
    add_integer(&start, SESSION_STATUS, SESSION_START);
    add_bytes(&m, EVENT_SESSION_LOG, start.bytes, start.length);
    return write_record(f, &m);
}

int event_file_scalar(event_file *f, int64_t step, const char *tag, double value) {
    message one = {.length = 0}, summary = {.length = 0}, m = begin_event(step);
    add_bytes(&one, VALUE_TAG, tag, strnlen(tag, MAX_TAG_BYTES));
    add_float(&one, VALUE_SIMPLE_VALUE, (float)value);
    add_bytes(&summary, SUMMARY_VALUE, one.bytes, one.length);
    add_bytes(&m, EVENT_SUMMARY, summary.bytes, summary.length);
    return write_record(f, &m);
}

/* ---------------------------------------------------------------- files */

static const char PREFIX[] = "events.out.tfevents.";

/* The latest time in the names of a folder's event files, in seconds; 0 if there are none. */
static long long newest_stamp(const char *folder) {
    long long newest = 0, stamp;
    DIR *entries = opendir(folder);
    for (struct dirent *e; entries && (e = readdir(entries));) {
        if (strncmp(e->d_name, PREFIX, sizeof PREFIX - 1)) continue;
        stamp = strtoll(e->d_name + sizeof PREFIX - 1, NULL, 10);
        if (stamp > newest) newest = stamp;
    }
    if (entries) closedir(entries);
    return newest;
}

static int open_new(const char *folder, event_file *f) {
    char host[64] = "localhost", name[160];
    long long now = (long long)time(NULL), newest = newest_stamp(folder);
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "%s%010lld.%s.%ld.0", PREFIX, now > newest ? now : newest + 1, host, (long)getpid());
    TRY(path_join(folder, name, &f->path));
    f->stream = fopen(f->path, "wbe");
    REQUIRE(f->stream, LCKV_ERROR_FILE, "cannot create '%s': %s", f->path, strerror(errno));
    return LCKV_OK;
}

int event_file_create(const char *folder, int64_t first_step, event_file *out) {
    *out = (event_file){0};
    TRY(folder_create(folder));
    int status = open_new(folder, out);
    if (status >= 0) status = write_version(out);
    if (status >= 0) status = write_start(out, first_step);
    if (status < 0) event_file_close(out);
    return status;
}

void event_file_close(event_file *f) {
    if (f->stream) fclose(f->stream);
    free(f->path);
    *f = (event_file){0};
}
