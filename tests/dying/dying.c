/* lckv with points in a step at which a rank kills itself with SIGKILL, for tests of what the other ranks do then.
 *
 * LCKV_DIES="RANK POINT STEP PASS FILE": this rank writes the empty file and dies when it passes the point for the
 * PASS-th time since it began its STEP-th step, both counted from 1. Evaluations and checkpoints belong to the step
 * before them.
 *
 *   forward     before the attention of a layer, also where an exact slot is filled
 *   backward    before the gradient of the attention of a layer
 *   reduction   within a reduce-scatter, when half of a message is sent to another rank
 *   optimizer   before a tensor is updated
 *   gathering   within an all-gather, when half of a message is sent
 *   evaluation  before the attention of a layer in an evaluation
 *   sending     while a checkpoint is written, when half of a message is sent
 *   writing     while a checkpoint is written, when half of some bytes are in the file
 *   renaming    before a complete checkpoint gets its name
 *   renamed     after it
 *
 * Without the variable, this is lckv. It is linked with cli/main.c, and with --wrap of each function __wrap_NAME. */
#include "base/files/file.h"
#include "base/files/folder.h"
#include "collectives/tcp/tcp.h"
#include "device/open.h"
#include "train/checkpoint/checkpoint.h"
#include "train/step/step.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    char point[32], file[1024];
    int step, pass; /* step 0: this rank does not die */
} death;

static int steps, passes;
static bool evaluates, saves, reduces, gathers;
static struct device_ops cpu;         /* the device's own entries */
static struct collectives_ops to_all; /* those of the collectives */

__attribute__((constructor)) static void read_death(void) {
    const char *text = getenv("LCKV_DIES"), *rank = getenv("RANK");
    int who, step, pass;
    if (!text || !rank) return;
    int words = sscanf(text, "%d %31s %d %d %1023s", &who, death.point, &step, &pass, death.file);
    if (words != 5 || who != atoi(rank)) return;
    death.step = step;
    death.pass = pass;
}

static bool passes_for_the_last_time(const char *point) {
    if (!death.step || steps != death.step || strcmp(point, death.point) != 0) return false;
    return ++passes == death.pass;
}

static void die(void) {
    close(creat(death.file, 0666));
    kill(getpid(), SIGKILL);
}

static void pass(const char *point) {
    if (passes_for_the_last_time(point)) die();
}

/* ---------------------------------------------------------------- steps */

int __real_stepper_begin(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate);
int __wrap_stepper_begin(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate);
int __real_stepper_evaluate(stepper *s, const examples *data, int64_t first, int count, step_evaluation *out);
int __wrap_stepper_evaluate(stepper *s, const examples *data, int64_t first, int count, step_evaluation *out);
int __real_train_checkpoint_write(const checkpoint_contents *c, run_folder *to);
int __wrap_train_checkpoint_write(const checkpoint_contents *c, run_folder *to);

int __wrap_stepper_begin(stepper *s, const examples *data, const int64_t *chosen, int64_t count, double learning_rate) {
    steps++;
    passes = 0;
    return __real_stepper_begin(s, data, chosen, count, learning_rate);
}

int __wrap_stepper_evaluate(stepper *s, const examples *data, int64_t first, int count, step_evaluation *out) {
    evaluates = true;
    int status = __real_stepper_evaluate(s, data, first, count, out);
    evaluates = false;
    return status;
}

int __wrap_train_checkpoint_write(const checkpoint_contents *c, run_folder *to) {
    saves = true;
    int status = __real_train_checkpoint_write(c, to);
    saves = false;
    return status;
}

/* ---------------------------------------------------------------- ops */

int __real_cpu_open(device *d, int threads);
int __wrap_cpu_open(device *d, int threads);

static int attention(device *d, const struct op_attention *a) {
    pass(evaluates ? "evaluation" : "forward");
    return cpu.attention(d, a);
}

static int attention_backward(device *d, const struct op_attention *a) {
    pass("backward");
    return cpu.attention_backward(d, a);
}

static int adamw(device *d, const struct op_adamw *a) {
    pass("optimizer");
    return cpu.adamw(d, a);
}

int __wrap_cpu_open(device *d, int threads) {
    TRY(__real_cpu_open(d, threads));
    cpu = d->ops;
    d->ops.attention = attention;
    d->ops.attention_backward = attention_backward;
    d->ops.adamw = adamw;
    return LCKV_OK;
}

/* ---------------------------------------------------------------- messages */

int __real_collectives_tcp_open(const launch *l, double time_limit, collectives **out);
int __wrap_collectives_tcp_open(const launch *l, double time_limit, collectives **out);
ssize_t __real_send(int fd, const void *bytes, size_t count, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t count, int flags);

static int reduce_scatter(const collectives *c, collectives_parts parts) {
    reduces = true;
    int status = to_all.reduce_scatter(c, parts);
    reduces = false;
    return status;
}

static int all_gather(const collectives *c, collectives_parts parts) {
    gathers = true;
    int status = to_all.all_gather(c, parts);
    gathers = false;
    return status;
}

int __wrap_collectives_tcp_open(const launch *l, double time_limit, collectives **out) {
    TRY(__real_collectives_tcp_open(l, time_limit, out));
    to_all = (*out)->ops;
    (*out)->ops.reduce_scatter = reduce_scatter;
    (*out)->ops.all_gather = all_gather;
    return LCKV_OK;
}

ssize_t __wrap_send(int fd, const void *bytes, size_t count, int flags) {
    const char *point = reduces ? "reduction" : gathers ? "gathering" : saves ? "sending" : "";
    if (!passes_for_the_last_time(point)) return __real_send(fd, bytes, count, flags);
    (void)!__real_send(fd, bytes, count / 2, flags);
    die();
    return -1;
}

/* ---------------------------------------------------------------- files */

int __real_file_write(new_file *file, const void *bytes, size_t count);
int __wrap_file_write(new_file *file, const void *bytes, size_t count);
int __real_folder_move(const char *from, const char *to);
int __wrap_folder_move(const char *from, const char *to);

int __wrap_file_write(new_file *file, const void *bytes, size_t count) {
    if (!saves || !passes_for_the_last_time("writing")) return __real_file_write(file, bytes, count);
    TRY(__real_file_write(file, bytes, count / 2));
    fflush(file->stream);
    die();
    return LCKV_OK;
}

int __wrap_folder_move(const char *from, const char *to) {
    if (saves) pass("renaming");
    int status = __real_folder_move(from, to);
    if (saves) pass("renamed");
    return status;
}
