/* The time that a stream waits for communication, see stream_waits.h. */
#include "collectives/nccl/stream_waits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void stream_waits_count(stream_waits *w, int slot) {
    w->slot = slot;
    if (slot < 0) return;
    w->slots[slot].count = 0;
    w->slots[slot].unknown = false;
}

void stream_waits_unknown(stream_waits *w) {
    if (w->slot >= 0) w->slots[w->slot].unknown = true;
}

static int check(cudaError_t error, const char *call) {
    if (error == cudaSuccess) return LCKV_OK;
    return fail(LCKV_ERROR_DEVICE, "%s: %s", call, cudaGetErrorString(error));
}

static int next_event(slot_waits *w, cudaEvent_t *out) {
    if (w->count == w->room) {
        int room = 2 * w->room + 64;
        cudaEvent_t *more = realloc(w->events, (size_t)room * sizeof *more);
        REQUIRE(more, LCKV_ERROR_MEMORY, "no memory for %d events", room);
        memset(more + w->room, 0, (size_t)(room - w->room) * sizeof *more);
        w->events = more;
        w->room = room;
    }
    cudaEvent_t *event = &w->events[w->count];
    if (!*event) TRY(check(cudaEventCreateWithFlags(event, cudaEventDefault), "cudaEventCreate"));
    w->count++;
    *out = *event;
    return LCKV_OK;
}

int stream_waits_mark(stream_waits *w, cudaStream_t stream) {
    cudaEvent_t event;
    if (w->slot < 0) return LCKV_OK;
    TRY(next_event(&w->slots[w->slot], &event));
    return check(cudaEventRecord(event, stream), "cudaEventRecord");
}

double stream_waits_seconds(const stream_waits *w, int slot) {
    const slot_waits *s = &w->slots[slot];
    double sum = s->unknown ? NAN : 0;
    for (int i = 0; i + 1 < s->count; i += 2) {
        float milliseconds;
        bool known = cudaEventElapsedTime(&milliseconds, s->events[i], s->events[i + 1]) == cudaSuccess;
        sum += known ? (double)milliseconds / 1000 : NAN;
        if (!known) cudaGetLastError(); /* it is no error of a later call */
    }
    return sum;
}

void stream_waits_free(stream_waits *w) {
    for (slot_waits *s = w->slots; s < w->slots + COLLECTIVES_SLOTS; s++) {
        for (int i = 0; i < s->room; i++)
            if (s->events[i]) cudaEventDestroy(s->events[i]);
        free(s->events);
    }
}
