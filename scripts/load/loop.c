#include "loop.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#include "fail.h"

enum { EVENTS_A_TURN = 512 };

static uint64_t asleep_ns;

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int the_epoll(void) {
    static int epoll = -1;
    if (epoll < 0) epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) fail_call("epoll_create1");
    return epoll;
}

static void control(int operation, struct watch *watch, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(the_epoll(), operation, watch->fd, &event) < 0) fail_call("epoll_ctl");
    watch->events = events;
}

void loop_watch(struct watch *watch, uint32_t events) { control(EPOLL_CTL_ADD, watch, events); }

void loop_change(struct watch *watch, uint32_t events) {
    if (watch->events != events) control(EPOLL_CTL_MOD, watch, events);
}

void loop_turn(int timeout_ms) {
    struct epoll_event events[EVENTS_A_TURN];
    uint64_t before_ns = now_ns();
    int count = epoll_wait(the_epoll(), events, EVENTS_A_TURN, timeout_ms);
    if (count < 0 && errno != EINTR) fail_call("epoll_wait");
    asleep_ns += now_ns() - before_ns;
    for (int at = 0; at < count; at++) {
        struct watch *watch = events[at].data.ptr;
        watch->ready(watch, events[at].events);
    }
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

/* The kernel's own figure, in ns: how long this thread was ready to run while others had the cores. */
static double without_core_s(void) {
    unsigned long long on_core_ns, waiting_ns = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%llu %llu", &on_core_ns, &waiting_ns) != 2) waiting_ns = 0;
    fclose(file);
    return (double)waiting_ns / 1e9;
}

struct spent loop_spent(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct spent){
        .clock = (double)now_ns() / 1e9,
        .cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime),
        .asleep = (double)asleep_ns / 1e9,
        .without_core = without_core_s(),
    };
}

struct spent loop_spent_since(struct spent before) {
    struct spent now = loop_spent();
    return (struct spent){
        .clock = now.clock - before.clock,
        .cpu = now.cpu - before.cpu,
        .asleep = now.asleep - before.asleep,
        .without_core = now.without_core - before.without_core,
    };
}
