/* Threads for steps of few rows, see threads.h. */
#include "device/cpu/threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum { POLLS = 2000 }; /* before a thread sleeps: 20 to 50 us */

struct cpu_threads {
    /* The number of the job in the upper half, its next unclaimed part in the lower half: a thread that is late cannot
     * claim a part of the next job. */
    _Atomic uint64_t ticket;
    /* The job; changed only while `ticket` offers no part of it, so that a claim fails if it was read too early. */
    _Atomic(cpu_task *) task;
    _Atomic(void *) job;
    atomic_int parts, finished; /* finished: parts */

    atomic_bool stopping, caller_sleeps;
    atomic_int sleepers; /* threads other than the caller */
    pthread_mutex_t mutex;
    pthread_cond_t new_job, all_finished;
    int count, started;
    struct helper {
        cpu_threads *all;
        int index;
        pthread_t thread;
    } helpers[]; /* [count] */
};

static uint32_t number_of(uint64_t ticket) {
    return (uint32_t)(ticket >> 32);
}

static void poll_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Runs parts of job `number` until none is left. */
static void run_parts(cpu_threads *p, uint32_t number, int thread) {
    uint64_t ticket = atomic_load(&p->ticket);
    while (number_of(ticket) == number) {
        cpu_task *task = atomic_load(&p->task);
        void *job = atomic_load(&p->job);
        int parts = atomic_load(&p->parts), part = (int)(uint32_t)ticket;
        if (part >= parts) return;
        if (!atomic_compare_exchange_weak(&p->ticket, &ticket, ticket + 1)) continue;
        task(job, part, thread);
        if (atomic_fetch_add(&p->finished, 1) + 1 == parts && atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->mutex);
            pthread_cond_signal(&p->all_finished);
            pthread_mutex_unlock(&p->mutex);
        }
        ticket = atomic_load(&p->ticket);
    }
}

/* ---------------------------------------------------------------- helpers */

static bool has_news(cpu_threads *p, uint32_t number) {
    return number_of(atomic_load(&p->ticket)) != number || atomic_load(&p->stopping);
}

static void wait_for_job(cpu_threads *p, uint32_t number) {
    for (int i = 0; i < POLLS; i++) {
        if (has_news(p, number)) return;
        poll_pause();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleepers, 1);
    while (!has_news(p, number)) pthread_cond_wait(&p->new_job, &p->mutex);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->mutex);
}

static void *help(void *argument) {
    struct helper *h = argument;
    cpu_threads *p = h->all;
    uint32_t number = 0;
    while (!atomic_load(&p->stopping)) {
        wait_for_job(p, number);
        number = number_of(atomic_load(&p->ticket));
        run_parts(p, number, h->index);
    }
    return NULL;
}

static void wake_helpers(cpu_threads *p) {
    if (atomic_load(&p->sleepers) == 0) return;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->new_job);
    pthread_mutex_unlock(&p->mutex);
}

/* ---------------------------------------------------------------- the caller */

static void wait_for_parts(cpu_threads *p, int parts) {
    for (int i = 0; i < POLLS; i++) {
        if (atomic_load(&p->finished) == parts) return;
        poll_pause();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_store(&p->caller_sleeps, true);
    while (atomic_load(&p->finished) != parts) pthread_cond_wait(&p->all_finished, &p->mutex);
    atomic_store(&p->caller_sleeps, false);
    pthread_mutex_unlock(&p->mutex);
}

void cpu_threads_run(cpu_threads *p, int parts, cpu_task *task, void *job) {
    uint64_t former = atomic_load(&p->ticket);
    uint32_t number = number_of(former) + 1;
    atomic_store(&p->ticket, former | INT32_MAX); /* offers no part while the job changes */
    atomic_store(&p->task, task);
    atomic_store(&p->job, job);
    atomic_store(&p->parts, parts);
    atomic_store(&p->finished, 0);
    atomic_store(&p->ticket, (uint64_t)number << 32);
    wake_helpers(p);
    run_parts(p, number, 0);
    wait_for_parts(p, parts);
}

/* ---------------------------------------------------------------- creating */

cpu_threads *cpu_threads_create(int threads) {
    int count = threads > 1 ? threads - 1 : 0;
    cpu_threads *p = calloc(1, sizeof *p + (size_t)count * sizeof *p->helpers);
    if (!p) return NULL;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->new_job, NULL);
    pthread_cond_init(&p->all_finished, NULL);
    p->count = count;
    for (; p->started < count; p->started++) {
        struct helper *h = &p->helpers[p->started];
        *h = (struct helper){.all = p, .index = p->started + 1};
        if (pthread_create(&h->thread, NULL, help, h) != 0) break;
    }
    return p;
}

void cpu_threads_free(cpu_threads *p) {
    if (!p) return;
    atomic_store(&p->stopping, true);
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->new_job);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 0; i < p->started; i++) pthread_join(p->helpers[i].thread, NULL);
    pthread_cond_destroy(&p->all_finished);
    pthread_cond_destroy(&p->new_job);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}
