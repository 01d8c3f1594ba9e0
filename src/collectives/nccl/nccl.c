/* Collectives on the memory of GPUs; see nccl.h. */
#include "collectives/nccl/nccl.h"

#include "base/clock.h"
#include "collectives/nccl/peer_sums.h"
#include "collectives/nccl/stream_waits.h"
#include "device/gpu.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <nccl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { WATCH_MILLISECONDS = 200, RETURN_SECONDS = 2 };

/* An operation aside, see collectives.h. */
typedef struct nccl_aside {
    cudaEvent_t point, done;
} nccl_aside;

typedef struct nccl_state {
    const collectives *host;
    device *device;
    int number;          /* of the GPU */
    cudaStream_t stream; /* of the current operation: that of the device's ops, or `beside` */
    cudaStream_t beside; /* of operations aside */
    bool aside;          /* the next operation is one */
    nccl_aside *asides;  /* [aside_count], by number */
    int aside_count;
    stream_waits waits;       /* of the device's stream */
    peer_sums peers;          /* for small sums; closed: NCCL makes all */
    _Atomic(ncclComm_t) comm; /* NULL: aborted */
    cudaEvent_t completed;    /* recorded after the last operation */
    pthread_mutex_t lock;     /* for the members down to `watching` */
    double entered;           /* when a call began that may block, see enter(); 0: none runs */
    double launched;          /* when the last operation was; 0: none was, or it has completed */
    bool ended;               /* there are no operations any more */
    bool timed_out;
    int lost; /* the rank whose connection has told that it failed; -1: none */
    bool watching;
    pthread_t watcher;
    struct pollfd *watched; /* [ranks] */
} nccl_state;

/* ---------------------------------------------------------------- errors */

static int check(const collectives *c, ncclResult_t result, const char *call) {
    if (result == ncclSuccess) return LCKV_OK;
    return fail(LCKV_ERROR_DEVICE, "process %d of %d: %s: %s", c->rank, c->ranks, call, ncclGetErrorString(result));
}

#define NCCL_TRY(c, call) TRY(check((c), (call), #call))

static int check_cuda(const collectives *c, cudaError_t error, const char *call) {
    if (error == cudaSuccess) return LCKV_OK;
    return fail(LCKV_ERROR_DEVICE, "process %d of %d: %s: %s", c->rank, c->ranks, call, cudaGetErrorString(error));
}

/* Ends operations that wait for other ranks. Sums of peers first: NCCL frees memory, which waits for all work of the
 * GPU. */
static void abort_locked(nccl_state *s) {
    ncclComm_t comm = atomic_exchange(&s->comm, NULL);
    peer_sums_stop(&s->peers);
    s->ended = true;
    if (comm) ncclCommAbort(comm);
}

static void stop(nccl_state *s) {
    pthread_mutex_lock(&s->lock);
    abort_locked(s);
    pthread_mutex_unlock(&s->lock);
}

/* Why there are no operations any more. */
static int ended_error(const collectives *c) {
    const nccl_state *s = c->own;
    REQUIRE(!s->timed_out, LCKV_ERROR_DEVICE,
            "process %d of %d: its GPU has waited for %.0f s (ddp_timeout): a process or GPU hangs, or a step takes "
            "longer",
            c->rank, c->ranks, c->time_limit);
    REQUIRE(s->lost < 0, LCKV_ERROR_DEVICE,
            "process %d of %d: NCCL was stopped because process %d is lost or has failed", c->rank, c->ranks, s->lost);
    return fail(LCKV_ERROR_DEVICE, "process %d of %d: NCCL was stopped because a process failed", c->rank, c->ranks);
}

/* ---------------------------------------------------------------- waits */

/* Called before and after what the device's stream waits for. */
static int mark_wait(const collectives *c) {
    nccl_state *s = c->own;
    return stream_waits_mark(&s->waits, cuda_device_stream(s->device));
}

static void count_waits(const collectives *c, int slot) {
    nccl_state *s = c->own;
    stream_waits_count(&s->waits, slot);
}

static double waited(const collectives *c, int slot) {
    const nccl_state *s = c->own;
    return cudaSetDevice(s->number) == cudaSuccess ? stream_waits_seconds(&s->waits, slot) : NAN;
}

/* ---------------------------------------------------------------- operations */

/* A launch can block for as long as another rank is missing: NCCL connects the ranks in the first operation, and a GPU
 * takes no more launches while its queue is full and waits for an earlier operation. Aborting NCCL ends both waits. The
 * watching thread needs the lock for that, so that launches run between enter() and leave(), without the lock. */
static int enter(const collectives *c) {
    nccl_state *s = c->own;
    TRY(check_cuda(c, cudaSetDevice(s->number), "cudaSetDevice"));
    pthread_mutex_lock(&s->lock);
    int status = s->ended ? ended_error(c) : LCKV_OK;
    if (status >= 0) s->entered = clock_seconds();
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* `launched`: the time limit applies to what was launched up to here. */
static int leave(const collectives *c, int status, bool launched) {
    nccl_state *s = c->own;
    pthread_mutex_lock(&s->lock);
    s->entered = 0;
    if (status >= 0 && launched) s->launched = clock_seconds();
    if (s->ended) {
        abort_locked(s); /* unless the watching thread has */
        status = ended_error(c);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* One launch on all ranks: NCCL joins the calls into one operation. */
typedef int (*calls)(const collectives *c, const void *arguments);

static int record_launch(const collectives *c) {
    const nccl_state *s = c->own;
    return check_cuda(c, cudaEventRecord(s->completed, s->stream), "cudaEventRecord");
}

/* Operations that are recorded (device.h) run later, when the recording is replayed. */
static int is_recording(const collectives *c, bool *recording) {
    const nccl_state *s = c->own;
    enum cudaStreamCaptureStatus state;
    TRY(check_cuda(c, cudaStreamIsCapturing(s->stream, &state), "cudaStreamIsCapturing"));
    *recording = state != cudaStreamCaptureStatusNone;
    return LCKV_OK;
}

static int run_group(const collectives *c, calls run, const void *arguments) {
    NCCL_TRY(c, ncclGroupStart());
    int status = run(c, arguments), ended = check(c, ncclGroupEnd(), "ncclGroupEnd");
    TRY(status);
    return ended;
}

/* An op of the device, which is not separated from its other ops. Never aside. */
static int sum_peers(const collectives *c, const void *arguments) {
    const nccl_state *s = c->own;
    return cuda_device_sum_peers(s->device, &s->peers.gpus, *(const view *)arguments);
}

static int run_one(const collectives *c, calls run, const void *arguments) {
    nccl_state *s = c->own;
    if (run == sum_peers) return sum_peers(c, arguments);
    if (!s->aside) cuda_device_separate(s->device);
    return run_group(c, run, arguments);
}

/* The device's stream waits for an operation that is not aside. */
static int run_on_stream(const collectives *c, calls run, const void *arguments, bool recording) {
    nccl_state *s = c->own;
    bool waits = !s->aside && !recording;
    if (!s->aside && recording) stream_waits_unknown(&s->waits);
    if (waits) TRY(mark_wait(c));
    TRY(run_one(c, run, arguments));
    return waits ? mark_wait(c) : LCKV_OK;
}

static int launch_entered(const collectives *c, calls run, const void *arguments, bool *recording) {
    nccl_state *s = c->own;
    s->stream = s->aside ? s->beside : cuda_device_stream(s->device);
    TRY(is_recording(c, recording));
    TRY(run_on_stream(c, run, arguments, *recording));
    return *recording ? LCKV_OK : record_launch(c);
}

static int launch(const collectives *c, calls run, const void *arguments) {
    bool recording = false;
    TRY(enter(c));
    int status = launch_entered(c, run, arguments, &recording);
    return leave(c, status, !recording);
}

static int call_all_reduce(const collectives *c, const void *arguments) {
    const nccl_state *s = c->own;
    const view *v = arguments;
    ncclDataType_t type = v->type == DTYPE_F64 ? ncclFloat64 : ncclFloat32;
    NCCL_TRY(c, ncclAllReduce(v->data, v->data, (size_t)(v->rows * v->cols), type, ncclSum, s->comm, s->stream));
    return LCKV_OK;
}

/* A sum for each owner, because parts differ in length. */
static int call_reduce_scatter(const collectives *c, const void *arguments) {
    const nccl_state *s = c->own;
    const collectives_parts *p = arguments;
    for (int r = 0; r < c->ranks; r++) {
        float *part = (float *)p->data + p->begin[r];
        size_t count = (size_t)(p->begin[r + 1] - p->begin[r]);
        if (count) NCCL_TRY(c, ncclReduce(part, part, count, ncclFloat32, ncclSum, r, s->comm, s->stream));
    }
    return LCKV_OK;
}

static int call_all_gather(const collectives *c, const void *arguments) {
    const nccl_state *s = c->own;
    const collectives_parts *p = arguments;
    size_t size = dtype_element_bytes(p->type);
    for (int r = 0; r < c->ranks; r++) {
        char *part = (char *)p->data + (size_t)p->begin[r] * size;
        size_t bytes = (size_t)(p->begin[r + 1] - p->begin[r]) * size;
        if (bytes) NCCL_TRY(c, ncclBroadcast(part, part, bytes, ncclUint8, r, s->comm, s->stream));
    }
    return LCKV_OK;
}

typedef struct broadcast_call {
    view v;
    int root;
} broadcast_call;

static int call_broadcast(const collectives *c, const void *arguments) {
    const nccl_state *s = c->own;
    const broadcast_call *b = arguments;
    NCCL_TRY(c, ncclBroadcast(b->v.data, b->v.data, view_bytes(b->v), ncclUint8, b->root, s->comm, s->stream));
    return LCKV_OK;
}

static int all_reduce(const collectives *c, view v) {
    const nccl_state *s = c->own;
    return launch(c, !s->aside && peer_sums_take(&s->peers, v) ? sum_peers : call_all_reduce, &v);
}

static int reduce_scatter(const collectives *c, collectives_parts p) {
    return launch(c, call_reduce_scatter, &p);
}

static int all_gather(const collectives *c, collectives_parts p) {
    return launch(c, call_all_gather, &p);
}

static int broadcast(const collectives *c, view v, int root) {
    return launch(c, call_broadcast, &(broadcast_call){v, root});
}

static int replayed(const collectives *c) {
    nccl_state *s = c->own;
    TRY(enter(c));
    s->stream = cuda_device_stream(s->device);
    return leave(c, record_launch(c), true);
}

/* ---------------------------------------------------------------- operations aside */

static int create_event(const collectives *c, cudaEvent_t *event) {
    return check_cuda(c, cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreate");
}

/* NCCL may get fewer multiprocessors than it needs to be fast if its blocks wait for those of a large product. */
static int open_beside(const collectives *c) {
    nccl_state *s = c->own;
    int least, most;
    TRY(check_cuda(c, cudaDeviceGetStreamPriorityRange(&least, &most), "cudaDeviceGetStreamPriorityRange"));
    return check_cuda(c, cudaStreamCreateWithPriority(&s->beside, cudaStreamNonBlocking, most),
                      "cudaStreamCreateWithPriority");
}

static void close_beside(nccl_state *s) {
    for (int i = 0; i < s->aside_count; i++) {
        if (s->asides[i].point) cudaEventDestroy(s->asides[i].point);
        if (s->asides[i].done) cudaEventDestroy(s->asides[i].done);
    }
    free(s->asides);
    if (s->beside) cudaStreamDestroy(s->beside);
}

/* Events that have not been recorded make nothing wait. */
static int find_aside(const collectives *c, int number, nccl_aside **out) {
    nccl_state *s = c->own;
    TRY(check_cuda(c, cudaSetDevice(s->number), "cudaSetDevice"));
    if (number >= s->aside_count) {
        int count = 2 * number + 16;
        nccl_aside *more = realloc(s->asides, (size_t)count * sizeof *more);
        REQUIRE(more, LCKV_ERROR_MEMORY, "no memory for the events of %d operations", count);
        memset(more + s->aside_count, 0, (size_t)(count - s->aside_count) * sizeof *more);
        s->asides = more;
        s->aside_count = count;
    }
    nccl_aside *a = *out = &s->asides[number];
    if (!a->point) TRY(create_event(c, &a->point));
    return a->done ? LCKV_OK : create_event(c, &a->done);
}

/* In a recording, the point is an event for the streams outside of it. */
static int point(const collectives *c, int number) {
    nccl_state *s = c->own;
    nccl_aside *a;
    bool recording;
    TRY(find_aside(c, number, &a));
    s->stream = cuda_device_stream(s->device);
    TRY(is_recording(c, &recording));
    unsigned how = recording ? cudaEventRecordExternal : cudaEventRecordDefault;
    cuda_device_separate(s->device);
    return check_cuda(c, cudaEventRecordWithFlags(a->point, s->stream, how), "cudaEventRecord");
}

static int begin_aside(const collectives *c, int number) {
    nccl_state *s = c->own;
    nccl_aside *a;
    TRY(find_aside(c, number, &a));
    TRY(check_cuda(c, cudaStreamWaitEvent(s->beside, a->point, 0), "cudaStreamWaitEvent"));
    s->aside = true;
    return LCKV_OK;
}

static int end_aside(const collectives *c, int number) {
    nccl_state *s = c->own;
    s->aside = false;
    return check_cuda(c, cudaEventRecord(s->asides[number].done, s->beside), "cudaEventRecord");
}

static int join_aside(const collectives *c, int number) {
    nccl_state *s = c->own;
    nccl_aside *a;
    TRY(find_aside(c, number, &a));
    cuda_device_separate(s->device);
    TRY(mark_wait(c));
    TRY(check_cuda(c, cudaStreamWaitEvent(cuda_device_stream(s->device), a->done, 0), "cudaStreamWaitEvent"));
    return mark_wait(c);
}

/* ---------------------------------------------------------------- operations of the host */

static int barrier(const collectives *c) {
    const nccl_state *s = c->own;
    return collectives_barrier(s->host);
}

static int gather_host(const collectives *c, const void *mine, const int64_t *counts, void *all) {
    const nccl_state *s = c->own;
    return collectives_gather_host(s->host, mine, counts, all);
}

static int broadcast_host(const collectives *c, void *host, size_t bytes) {
    const nccl_state *s = c->own;
    return collectives_broadcast_host(s->host, host, bytes);
}

static int await(const collectives *c) {
    const nccl_state *s = c->own;
    return collectives_await(s->host);
}

static int check_time_limit(const collectives *c) {
    nccl_state *s = c->own;
    pthread_mutex_lock(&s->lock);
    int status = s->timed_out ? ended_error(c) : LCKV_OK;
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* After a failure, this rank's stream must not wait for operations that another rank does not start any more. What an
 * aborted operation has written is undefined. */
static int agree(const collectives *c, int status) {
    nccl_state *s = c->own;
    if (status >= 0) status = check_time_limit(c);
    int agreed = collectives_agree(s->host, status);
    if (agreed < 0 && agreed != LCKV_ERROR_INTERRUPTED) stop(s);
    return agreed;
}

static void give_up(const collectives *c) {
    nccl_state *s = c->own;
    collectives_give_up(s->host);
    stop(s);
}

/* ---------------------------------------------------------------- ranks that are lost */

/* A thread that has entered uses the communicator, and aborts it when it leaves. */
static void end_locked(nccl_state *s) {
    s->ended = true;
    if (!s->entered) abort_locked(s);
}

/* Since when a launch or an operation has been running; 0: none is. CUDA is not asked while another thread may block in
 * it. */
static double busy_since(nccl_state *s) {
    if (s->entered) return s->entered;
    if (s->launched && cudaEventQuery(s->completed) != cudaErrorNotReady) s->launched = 0;
    return s->launched;
}

/* Returns whether there is nothing to watch any more. */
static bool check_time(nccl_state *s) {
    pthread_mutex_lock(&s->lock);
    double since = s->ended ? 0 : busy_since(s), limit = s->host->time_limit;
    if (since > 0 && limit > 0 && clock_seconds() > since + limit) {
        s->timed_out = true;
        end_locked(s);
    }
    bool over = s->ended;
    pthread_mutex_unlock(&s->lock);
    return over;
}

static void stop_for_lost(nccl_state *s) {
    pthread_mutex_lock(&s->lock);
    for (int r = 0; r < s->host->ranks && s->lost < 0; r++)
        if (s->watched[r].revents) s->lost = r;
    end_locked(s);
    pthread_mutex_unlock(&s->lock);
}

/* A launch that waits for a lost rank does not return by itself. Then the communicator is aborted while a thread uses
 * it, which is the only way out, and which NCCL supports since 2.19. */
static void free_blocked(nccl_state *s) {
    double begin = clock_seconds();
    for (bool waits = true; waits;) {
        pthread_mutex_lock(&s->lock);
        waits = s->entered > 0 && s->comm;
        if (waits && clock_seconds() > begin + RETURN_SECONDS) abort_locked(s);
        pthread_mutex_unlock(&s->lock);
        if (waits) poll(NULL, 0, WATCH_MILLISECONDS);
    }
}

/* What is readable stays for the transport to read: it knows why the rank is lost. */
static void *watch(void *user) {
    nccl_state *s = user;
    while (!check_time(s))
        if (poll(s->watched, (nfds_t)s->host->ranks, WATCH_MILLISECONDS) > 0) stop_for_lost(s);
    free_blocked(s);
    return NULL;
}

static int start_watching(const collectives *c) {
    nccl_state *s = c->own;
    if (!s->host->watched) return LCKV_OK;
    s->watched = malloc((size_t)c->ranks * sizeof *s->watched);
    REQUIRE(s->watched, LCKV_ERROR_MEMORY, "no memory for the connections of %d processes", c->ranks);
    for (int r = 0; r < c->ranks; r++) s->watched[r] = (struct pollfd){.fd = s->host->watched[r], .events = POLLIN};
    s->watching = !pthread_create(&s->watcher, NULL, watch, s);
    REQUIRE(s->watching, LCKV_ERROR_MEMORY, "process %d of %d: no thread to watch the others", c->rank, c->ranks);
    return LCKV_OK;
}

/* ---------------------------------------------------------------- opening and closing */

static void close_nccl(collectives *c) {
    nccl_state *s = c->own;
    pthread_mutex_lock(&s->lock);
    if (!s->ended && s->comm) ncclCommDestroy(s->comm);
    s->ended = true;
    pthread_mutex_unlock(&s->lock);
    if (s->watching) pthread_join(s->watcher, NULL);
    peer_sums_close(&s->peers);
    if (s->completed) cudaEventDestroy(s->completed);
    close_beside(s);
    stream_waits_free(&s->waits);
    pthread_mutex_destroy(&s->lock);
    free(s->watched);
    free(s);
    free(c);
}

static int find_double(const collectives *host, const char *name, const cudaUUID_t *ids) {
    for (int r = 0; r < host->ranks; r++)
        REQUIRE(r == host->rank || memcmp(&ids[r], &ids[host->rank], sizeof *ids), LCKV_ERROR_ARGUMENT,
                "processes %d and %d use the same GPU (%s): start one process per GPU", r < host->rank ? r : host->rank,
                r < host->rank ? host->rank : r, name);
    return LCKV_OK;
}

static int check_gpus(const collectives *c, const device *d) {
    const nccl_state *s = c->own;
    struct cudaDeviceProp properties;
    cudaUUID_t *ids = malloc((size_t)c->ranks * sizeof *ids);
    int status = ids ? check_cuda(c, cudaGetDeviceProperties(&properties, s->number), "cudaGetDeviceProperties")
                     : fail(LCKV_ERROR_MEMORY, "no memory for the GPUs of %d processes", c->ranks);
    status = collectives_agree(s->host, status);
    if (status >= 0) status = collectives_gather_host_for_all(s->host, &properties.uuid, sizeof *ids, ids);
    if (status >= 0) status = collectives_agree(s->host, find_double(s->host, d->name, ids));
    free(ids);
    return status;
}

static int join_ranks(const collectives *c) {
    nccl_state *s = c->own;
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    setenv("NCCL_ALGO", "Ring", 0);
    setenv("NCCL_PROTO", "Simple", 0);
    setenv("NCCL_NVLS_ENABLE", "0", 0);
    int status = c->rank ? LCKV_OK : check(c, ncclGetUniqueId(&id), "ncclGetUniqueId");
    TRY(collectives_agree(s->host, status));
    TRY(collectives_broadcast_host(s->host, &id, sizeof id));
    status = check_cuda(c, cudaSetDevice(s->number), "cudaSetDevice");
    if (status >= 0) status = create_event(c, &s->completed);
    if (status >= 0) status = open_beside(c);
    TRY(collectives_agree(s->host, status));
    ncclComm_t comm = NULL;
    status = check(c, ncclCommInitRank(&comm, c->ranks, id, c->rank), "ncclCommInitRank");
    s->comm = comm;
    return collectives_agree(s->host, status);
}

static int open_ranks(const collectives *c, const device *d) {
    nccl_state *s = c->own;
    TRY(check_gpus(c, d));
    TRY(join_ranks(c));
    TRY(peer_sums_open(&s->peers, s->host, s->device));
    return collectives_agree(s->host, start_watching(c));
}

static collectives *make(const collectives *host, device *d) {
    collectives *c = calloc(1, sizeof *c);
    nccl_state *s = c ? calloc(1, sizeof *s) : NULL;
    if (!s || pthread_mutex_init(&s->lock, NULL)) {
        free(s);
        free(c);
        return NULL;
    }
    s->host = host;
    s->lost = -1;
    stream_waits_count(&s->waits, -1);
    s->number = cuda_device_number(d);
    s->device = d;
    *c = *host;
    c->host_memory = false;
    c->device = d;
    c->own = s;
    c->ops = (struct collectives_ops){.all_reduce = all_reduce,
                                      .reduce_scatter = reduce_scatter,
                                      .all_gather = all_gather,
                                      .broadcast = broadcast,
                                      .point = point,
                                      .begin_aside = begin_aside,
                                      .end_aside = end_aside,
                                      .join_aside = join_aside,
                                      .barrier = barrier,
                                      .gather_host = gather_host,
                                      .broadcast_host = broadcast_host,
                                      .agree = agree,
                                      .await = await,
                                      .give_up = give_up,
                                      .replayed = replayed,
                                      .count_waits = count_waits,
                                      .waited = waited,
                                      .close = close_nccl};
    return c;
}

int collectives_nccl_open(const collectives *host, device *d, collectives **out) {
    *out = NULL;
    collectives *c = make(host, d);
    int status = c ? LCKV_OK : fail(LCKV_ERROR_MEMORY, "no memory for NCCL");
    status = collectives_agree(host, status);
    if (status >= 0) status = open_ranks(c, d);
    if (status < 0 && c) {
        stop(c->own);
        close_nccl(c);
    }
    if (status >= 0) *out = c;
    return status;
}
