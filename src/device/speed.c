/* The reference speeds of a device, see speed.h. Implements lckv_device_speed() of lckv.h. */
#include "device/speed.h"

#include "base/clock.h"

/* Large enough that the overhead of a call does not matter: 17 GFLOP on a CPU, 1.1 TFLOP on a GPU. The matrices that
 * are copied are larger than the caches. */
enum { CPU_SIZE = 2048, GPU_SIZE = 8192, CPU_REPEATS = 1, GPU_REPEATS = 8 };

static int64_t default_size(const device *d) {
    return d->host_memory ? CPU_SIZE : GPU_SIZE;
}

static int repeats_on(const device *d) {
    return d->host_memory ? CPU_REPEATS : GPU_REPEATS;
}

static int random_floats(device *d, int64_t rows, int64_t cols, dtype type, uint64_t stream, void **out) {
    view v = {NULL, rows, cols, type};
    TRY(d->memory.alloc(d, view_bytes(v), out));
    v.data = *out;
    struct op_fill_normal a = {.dst = v, .deviation = 1, .seed = 1, .stream = stream};
    return DEVICE_RUN(d, fill_normal, &a);
}

int device_speed_random(device *d, uint64_t stream, view *v) {
    if (dtype_element_bytes(v->type)) return random_floats(d, v->rows, v->cols, v->type, stream, &v->data);
    int64_t floats = (int64_t)(view_bytes(*v) / sizeof(float)) + 1;
    int64_t scales = (int64_t)(view_scale_bytes(*v) / dtype_element_bytes(DTYPE_F16));
    TRY(random_floats(d, 1, floats, DTYPE_F32, stream, &v->data));
    return random_floats(d, 1, scales, DTYPE_F16, stream, &v->scales);
}

int device_speed_open_product(device *d, dtype compute, dtype weight, int64_t size, device_speed *s) {
    double ignored;
    if (!size) size = default_size(d);
    *s = (device_speed){.device = d, .flops = 2.0 * (double)size * (double)size * (double)size};
    s->product = (struct op_linear){
        .x = {NULL, size, size, compute}, .weight = {NULL, size, size, weight}, .y = {NULL, size, size, compute}};
    TRY(device_speed_random(d, 1, &s->product.x));
    TRY(device_speed_random(d, 2, &s->product.weight));
    TRY(device_speed_random(d, 3, &s->product.y));
    return device_speed_product(s, &ignored); /* the first call creates the primitive */
}

/* The values do not matter. */
static int zero_matrix(device *d, int64_t size, dtype type, view *out) {
    *out = (view){NULL, size, size, type};
    TRY(d->memory.alloc(d, view_bytes(*out), &out->data));
    return d->memory.zero(d, out->data, view_bytes(*out));
}

int device_speed_open(device *d, dtype compute, device_speed *s) {
    double ignored;
    int64_t size = 2 * default_size(d);
    TRY(device_speed_open_product(d, compute, compute, 0, s));
    TRY(zero_matrix(d, size, DTYPE_F32, &s->copy.src));
    TRY(zero_matrix(d, size, DTYPE_F32, &s->copy.dst));
    s->bytes = 2.0 * (double)view_bytes(s->copy.src);
    return device_speed_copy(s, &ignored);
}

void device_speed_close(device_speed *s) {
    if (!s->device) return;
    void *memory[] = {s->product.x.data, s->product.weight.data, s->product.weight.scales,
                      s->product.y.data, s->copy.src.data,       s->copy.dst.data};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i]) s->device->memory.release(s->device, memory[i]);
    *s = (device_speed){.device = NULL};
}

int device_speed_product(const device_speed *s, double *flops_per_second) {
    int repeats = repeats_on(s->device);
    TRY(s->device->memory.wait(s->device));
    double start = clock_seconds();
    for (int i = 0; i < repeats; i++) TRY(DEVICE_RUN(s->device, linear, &s->product));
    TRY(s->device->memory.wait(s->device));
    *flops_per_second = repeats * s->flops / (clock_seconds() - start);
    return LCKV_OK;
}

int device_speed_copy(const device_speed *s, double *bytes_per_second) {
    int repeats = repeats_on(s->device);
    TRY(s->device->memory.wait(s->device));
    double start = clock_seconds();
    for (int i = 0; i < repeats; i++) TRY(DEVICE_RUN(s->device, cast, &s->copy));
    TRY(s->device->memory.wait(s->device));
    *bytes_per_second = repeats * s->bytes / (clock_seconds() - start);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- reading memory */

typedef uint64_t words __attribute__((vector_size(16)));
enum {
    LINE_WORDS = 4,   /* vectors of a cache line */
    AHEAD_LINES = 128 /* lines that are prefetched before they are read */
};

static uint64_t read_lines(const words *from, int64_t begin, int64_t end) {
    words a = {0}, b = {0}, c = {0}, d = {0};
    for (const words *at = from + begin * LINE_WORDS; at < from + end * LINE_WORDS; at += LINE_WORDS) {
        __builtin_prefetch(at + AHEAD_LINES * LINE_WORDS);
        a ^= at[0];
        b ^= at[1];
        c ^= at[2];
        d ^= at[3];
    }
    words all = a ^ b ^ c ^ d;
    return all[0] ^ all[1];
}

double device_speed_read(const device_speed *s) {
    if (!s->device->host_memory) return 0;
    const view *both[] = {&s->copy.src, &s->copy.dst};
    int threads = s->device->threads;
    int64_t lines = (int64_t)(view_bytes(s->copy.src) / (LINE_WORDS * sizeof(words)));
    uint64_t all = 0;
    double start = clock_seconds();
    for (int i = 0; i < 2; i++) {
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(^ : all)
        for (int part = 0; part < threads; part++)
            all ^= read_lines(both[i]->data, lines * part / threads, lines * (part + 1) / threads);
    }
    double seconds = clock_seconds() - start;
    volatile uint64_t kept = all; /* so that reading is not optimized away */
    (void)kept;
    return s->bytes / seconds;
}

/* ---------------------------------------------------------------- lckv.h */

enum { MAX_ROUNDS = 5 };
static const double MAX_SECONDS = 1;

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* The best of several rounds, because other processes may disturb some of them. */
static int measure(const device_speed *s, lckv_device_speeds *out) {
    double begin = clock_seconds();
    for (int i = 0; i < MAX_ROUNDS && (i == 0 || clock_seconds() - begin < MAX_SECONDS); i++) {
        double product, copy;
        TRY(device_speed_product(s, &product));
        TRY(device_speed_copy(s, &copy));
        out->product_flops = larger(out->product_flops, product);
        out->copy_bytes = larger(out->copy_bytes, copy);
        out->read_bytes = larger(out->read_bytes, device_speed_read(s));
    }
    return LCKV_OK;
}

int lckv_device_speed(lckv_device *d, bool bf16, lckv_device_speeds *out) {
    device_speed s;
    *out = (lckv_device_speeds){0};
    if (d->counts_only) return LCKV_OK;
    int status = device_speed_open(d, bf16 ? DTYPE_BF16 : DTYPE_F32, &s);
    if (status >= 0) status = measure(&s, out);
    device_speed_close(&s);
    if (status < 0) *out = (lckv_device_speeds){0};
    return status;
}
