/* The GPU's memory, copies, waiting, and workspaces.
 *
 * copy_in() uses pinned buffers in turn, so that it does not wait for earlier work; it waits only if all buffers are
 * in flight. copy_out() copies to pinned memory, and wait() or reach() delivers the result. */
#include "device/cuda/cuda.h"

extern "C" {
#include "base/clock.h"
#include "device/limit.h"
}

#include <stdlib.h>
#include <string.h>

static int enter(device *d) {
    CUDA_TRY(d, cudaSetDevice(cuda_state_of(d)->number));
    return LCKV_OK;
}

int cuda_outside_capture(device *d, const char *what) {
    cudaStreamCaptureStatus status;
    CUDA_TRY(d, cudaStreamIsCapturing(cuda_stream(d), &status));
    REQUIRE(status == cudaStreamCaptureStatusNone, LCKV_ERROR_DEVICE, "%s: %s cannot be part of a captured step",
            d->name, what);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- allocating */

static int out_of_memory(device *d, size_t bytes) {
    size_t free_bytes = 0, total = 0;
    cudaGetLastError();
    cudaMemGetInfo(&free_bytes, &total);
    const double mib = 1024.0 * 1024.0;
    return fail(LCKV_ERROR_MEMORY,
                "%s: out of memory: asked for %.1f MiB, %.1f of %.1f MiB are free; a smaller "
                "--per_device_train_batch_size, --block_size or --torch_dtype bfloat16 needs less",
                d->name, (double)bytes / mib, (double)free_bytes / mib, (double)total / mib);
}

static int allocate(device *d, size_t bytes, void **out) {
    *out = NULL;
    TRY(enter(d));
    TRY(cuda_outside_capture(d, "an allocation"));
    cudaError_t error = cudaMalloc(out, bytes > 0 ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) return out_of_memory(d, bytes);
    return error == cudaSuccess ? LCKV_OK : cuda_failed(d, "cudaMalloc", error);
}

/* Blocks of alloc(), which a limit counts, because CUDA does not tell the size of a block. */
struct cuda_block {
    void *memory;
    size_t bytes;
};

static int add_block(device *d, void *memory, size_t bytes) {
    struct cuda_state *s = cuda_state_of(d);
    if (s->block_count == s->block_room) {
        int room = 2 * s->block_room + 64;
        void *more = realloc(s->blocks, (size_t)room * sizeof *s->blocks);
        REQUIRE(more != NULL, LCKV_ERROR_MEMORY, "no memory for a list of the blocks on %s", d->name);
        s->blocks = (struct cuda_block *)more;
        s->block_room = room;
    }
    s->blocks[s->block_count++] = {memory, bytes};
    s->held += bytes;
    return LCKV_OK;
}

static int alloc(device *d, size_t bytes, void **out) {
    struct cuda_state *s = cuda_state_of(d);
    *out = NULL;
    TRY(device_check_limit(d, bytes, s->held, s->limit));
    TRY(allocate(d, bytes, out));
    int status = add_block(d, *out, bytes);
    if (status < 0) {
        cudaFree(*out);
        *out = NULL;
    }
    return status;
}

static void release(device *d, void *memory) {
    struct cuda_state *s = cuda_state_of(d);
    if (memory == NULL || enter(d) < 0) return;
    int i = s->block_count - 1;
    while (i >= 0 && s->blocks[i].memory != memory) i--;
    if (i >= 0) {
        s->held -= s->blocks[i].bytes;
        s->blocks[i] = s->blocks[--s->block_count];
    }
    cudaFree(memory);
}

static int limit(device *d, size_t bytes) {
    cuda_state_of(d)->limit = bytes;
    return LCKV_OK;
}

struct cuda_outgrown {
    struct cuda_outgrown *next;
    void *memory;
};

/* At least doubled, so that all replaced workspaces together are no larger than the current one. */
static int grow(device *d, enum cuda_work which, size_t bytes) {
    struct cuda_state *s = cuda_state_of(d);
    struct cuda_outgrown *old = (struct cuda_outgrown *)malloc(sizeof *old);
    REQUIRE(old != NULL, LCKV_ERROR_MEMORY, "no memory for a list of workspaces");
    size_t wanted = bytes > 2 * s->works[which].bytes ? bytes : 2 * s->works[which].bytes;
    void *memory;
    int status = allocate(d, wanted, &memory);
    if (status < 0 && wanted > bytes) status = allocate(d, wanted = bytes, &memory);
    if (status < 0) {
        free(old);
        return status;
    }
    *old = {s->outgrown, s->works[which].memory};
    s->outgrown = old;
    s->works[which] = {memory, wanted};
    return LCKV_OK;
}

int cuda_workspace(device *d, enum cuda_work which, size_t bytes, void **out) {
    struct cuda_state *s = cuda_state_of(d);
    if (s->works[which].bytes < bytes) TRY(grow(d, which, bytes));
    *out = s->works[which].memory;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- copies */

/* Small copies between device memory and pinned host memory are done by a kernel, which starts sooner than the copy
 * engine and the kernel after it do. */
enum { COPY_THREADS = 256, COPY_UNIT = 16, MAX_COPY_BYTES = 512 << 10 };

__global__ static void __launch_bounds__(COPY_THREADS) copy_units(char *to, const char *from, int bytes) {
    int at = ((int)blockIdx.x * COPY_THREADS + (int)threadIdx.x) * COPY_UNIT;
    if (at + COPY_UNIT <= bytes) {
        *(uint4 *)(to + at) = *(const uint4 *)(from + at);
    } else {
        for (; at < bytes; at++) to[at] = from[at];
    }
}

static int copy_pinned(device *d, void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    bool aligned = ((uintptr_t)to | (uintptr_t)from) % COPY_UNIT == 0;
    if (bytes == 0) return LCKV_OK;
    if (bytes > MAX_COPY_BYTES || !aligned) {
        CUDA_TRY(d, cudaMemcpyAsync(to, from, bytes, kind, cuda_stream(d)));
        return LCKV_OK;
    }
    unsigned blocks = cuda_blocks((int64_t)bytes, COPY_THREADS * COPY_UNIT);
    copy_units<<<blocks, COPY_THREADS, 0, cuda_stream(d)>>>((char *)to, (const char *)from, (int)bytes);
    CUDA_TRY(d, cudaPeekAtLastError());
    return LCKV_OK;
}

static int copy_in(device *d, void *to, const void *host, size_t bytes) {
    struct cuda_state *s = cuda_state_of(d);
    TRY(enter(d));
    TRY(cuda_outside_capture(d, "a copy from the host"));
    cuda_break_chain(s);
    for (size_t done = 0; done < bytes; done += CUDA_STAGE_BYTES) {
        size_t now = bytes - done < CUDA_STAGE_BYTES ? bytes - done : (size_t)CUDA_STAGE_BYTES;
        auto stage = &s->stages[s->next_stage++ % CUDA_STAGES];
        CUDA_TRY(d, cudaEventSynchronize(stage->sent));
        memcpy(stage->memory, (const char *)host + done, now);
        TRY(copy_pinned(d, (char *)to + done, stage->memory, now, cudaMemcpyHostToDevice));
        CUDA_TRY(d, cudaEventRecord(stage->sent, s->stream));
    }
    return LCKV_OK;
}

/* ---------------------------------------------------------------- results */

/* Delivers results added before `end`; their copies have ended. */
static void hand_on(struct cuda_state *s, int64_t end) {
    for (; s->results_taken < end; s->results_taken++) {
        auto result = &s->result[s->results_taken % CUDA_RESULTS];
        memcpy(result->host, s->result_memory + result->at % CUDA_RESULT_BYTES, result->bytes);
        s->result_bytes_taken = result->at + result->bytes;
    }
}

/* After a failure, results that have not arrived are dropped. */
static int wait(device *d) {
    struct cuda_state *s = cuda_state_of(d);
    TRY(enter(d));
    cudaError_t error = cudaStreamSynchronize(s->stream);
    if (error == cudaSuccess) hand_on(s, s->results_put);
    s->results_taken = s->results_put;
    s->result_bytes_taken = s->result_bytes_put;
    return error == cudaSuccess ? LCKV_OK : cuda_failed(d, "cudaStreamSynchronize", error);
}

static int mark(device *d, int64_t *mark) {
    struct cuda_state *s = cuda_state_of(d);
    TRY(enter(d));
    auto place = &s->marks[s->marks_set % DEVICE_MARKS];
    CUDA_TRY(d, cudaEventRecord(place->passed, s->stream));
    place->results = s->results_put;
    *mark = s->marks_set++;
    return LCKV_OK;
}

static int reach(device *d, int64_t mark) {
    struct cuda_state *s = cuda_state_of(d);
    TRY(enter(d));
    REQUIRE(mark >= 0 && mark < s->marks_set, LCKV_ERROR_ARGUMENT, "%s: mark %lld is none of %lld", d->name,
            (long long)mark, (long long)s->marks_set);
    if (mark < s->marks_set - DEVICE_MARKS) mark = s->marks_set - DEVICE_MARKS;
    auto place = &s->marks[mark % DEVICE_MARKS];
    CUDA_TRY(d, cudaEventSynchronize(place->passed));
    hand_on(s, place->results);
    return LCKV_OK;
}

/* A contiguous position in the ring for `bytes`: what does not fit before the ring's end begins at its start. */
static size_t result_place(const struct cuda_state *s, size_t bytes) {
    size_t at = s->result_bytes_put, left = CUDA_RESULT_BYTES - at % CUDA_RESULT_BYTES;
    return left < bytes ? at + left : at;
}

/* Room for a result in the ring, aligned to COPY_UNIT. Waits for earlier results if it is full. */
static int make_room(device *d, size_t bytes, size_t *at) {
    struct cuda_state *s = cuda_state_of(d);
    *at = result_place(s, bytes);
    if (*at + bytes - s->result_bytes_taken <= CUDA_RESULT_BYTES && s->results_put - s->results_taken < CUDA_RESULTS)
        return LCKV_OK;
    TRY(wait(d));
    *at = result_place(s, bytes);
    s->result_bytes_taken = *at;
    return LCKV_OK;
}

static void add_result(struct cuda_state *s, void *host, size_t at, size_t bytes) {
    s->result[s->results_put++ % CUDA_RESULTS] = {host, at, bytes};
    s->result_bytes_put = (at + bytes + COPY_UNIT - 1) / COPY_UNIT * COPY_UNIT;
}

/* Results too large for the ring are copied at once, which waits. */
static int copy_out(device *d, void *host, const void *from, size_t bytes) {
    struct cuda_state *s = cuda_state_of(d);
    TRY(enter(d));
    TRY(cuda_outside_capture(d, "a copy to the host"));
    if (bytes > CUDA_RESULT_BYTES) {
        CUDA_TRY(d, cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, s->stream));
        return LCKV_OK;
    }
    size_t at;
    TRY(make_room(d, bytes, &at));
    s->chain = false;
    TRY(copy_pinned(d, s->result_memory + at % CUDA_RESULT_BYTES, from, bytes, cudaMemcpyDeviceToHost));
    add_result(s, host, at, bytes);
    return LCKV_OK;
}

static void CUDART_CB write_clock(void *to) {
    *(double *)to = clock_seconds();
}

static int clock_out(device *d, double *host) {
    struct cuda_state *s = cuda_state_of(d);
    size_t at;
    TRY(enter(d));
    TRY(cuda_outside_capture(d, "reading the clock"));
    TRY(make_room(d, sizeof *host, &at));
    s->chain = false;
    CUDA_TRY(d, cudaLaunchHostFunc(s->stream, write_clock, s->result_memory + at % CUDA_RESULT_BYTES));
    add_result(s, host, at, sizeof *host);
    return LCKV_OK;
}

static int zero(device *d, void *memory, size_t bytes) {
    TRY(enter(d));
    cuda_break_chain(cuda_state_of(d));
    if (bytes > 0) CUDA_TRY(d, cudaMemsetAsync(memory, 0, bytes, cuda_stream(d)));
    return LCKV_OK;
}

static int available(device *d, size_t *free_bytes, size_t *total_bytes) {
    TRY(enter(d));
    CUDA_TRY(d, cudaMemGetInfo(free_bytes, total_bytes));
    return LCKV_OK;
}

/* ---------------------------------------------------------------- opening and closing */

int cuda_memory_open(device *d) {
    struct cuda_state *s = cuda_state_of(d);
    d->memory.alloc = alloc;
    d->memory.release = release;
    d->memory.copy_in = copy_in;
    d->memory.copy_out = copy_out;
    d->memory.clock_out = clock_out;
    d->memory.zero = zero;
    d->memory.wait = wait;
    d->memory.mark = mark;
    d->memory.reach = reach;
    d->memory.available = available;
    d->memory.limit = limit;
    for (int i = 0; i < CUDA_STAGES; i++) {
        CUDA_TRY(d, cudaHostAlloc(&s->stages[i].memory, CUDA_STAGE_BYTES, cudaHostAllocDefault));
        CUDA_TRY(d, cudaEventCreateWithFlags(&s->stages[i].sent, cudaEventDisableTiming));
    }
    for (int i = 0; i < DEVICE_MARKS; i++) {
        CUDA_TRY(d, cudaEventCreateWithFlags(&s->marks[i].passed, cudaEventDisableTiming));
    }
    CUDA_TRY(d, cudaHostAlloc((void **)&s->result_memory, CUDA_RESULT_BYTES, cudaHostAllocDefault));
    TRY(allocate(d, CUDA_COUNTERS * sizeof *s->counters, (void **)&s->counters));
    TRY(zero(d, s->counters, CUDA_COUNTERS * sizeof *s->counters));
    return LCKV_OK;
}

void cuda_memory_close(device *d) {
    struct cuda_state *s = cuda_state_of(d);
    for (int i = 0; i < CUDA_STAGES; i++) {
        if (s->stages[i].memory) cudaFreeHost(s->stages[i].memory);
        if (s->stages[i].sent) cudaEventDestroy(s->stages[i].sent);
    }
    for (int i = 0; i < DEVICE_MARKS; i++) {
        if (s->marks[i].passed) cudaEventDestroy(s->marks[i].passed);
    }
    if (s->result_memory) cudaFreeHost(s->result_memory);
    cudaFree(s->counters);
    free(s->blocks);
    for (int i = 0; i < CUDA_WORKS; i++) cudaFree(s->works[i].memory);
    while (s->outgrown) {
        struct cuda_outgrown *next = s->outgrown->next;
        cudaFree(s->outgrown->memory);
        free(s->outgrown);
        s->outgrown = next;
    }
}
