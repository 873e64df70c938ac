#include "run.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clients.h"
#include "fail.h"
#include "producer.h"

enum { QUIET_S = 3, TURN_MS = 20, LINGER_MS = 100, WAITING_MAX_BYTES = 64 << 20 };

static const uint64_t SECOND_NS = 1000000000u;

/* Due messages are sent together when they are closer than this: a timer for each would be the generator's main work. */
static const uint64_t PRECISION_NS = 100000u;

enum { TO_ALL_MAX = 256 };

static struct {
    const struct plan *plan;
    uint64_t sent, stop_ns;
    struct latency *last;
    struct {
        uint64_t at_ns;
        size_t heard;
    } to_all[TO_ALL_MAX];  /* when a message to all was sent and how many have it, by its number */
} now_running;

static uint64_t send_one(size_t user, uint64_t at_ns) {
    struct stamp stamp = {.number = ++client_receiver(user)->sent, .at_ns = at_ns};
    producer_add(user, now_running.plan->publications[user], stamp);
    now_running.sent++;
    return stamp.number;
}

/* Whether time is up is asked once a turn: what came together is answered together. */
static void send_next(size_t user, uint64_t number) {
    (void)number;
    send_one(user, now_ns());
}

/* The first user stands for all: who listens is not what the producer counts. */
static void send_to_all(void) {
    size_t users = now_running.plan->users;
    uint64_t at_ns = now_ns();
    for (size_t user = 1; user < users; user++) client_receiver(user)->sent++;
    now_running.to_all[send_one(0, at_ns) % TO_ALL_MAX].at_ns = at_ns;
    now_running.sent += users - 1;
}

static void hear(size_t user, uint64_t number) {
    size_t place = number % TO_ALL_MAX;
    (void)user;
    if (++now_running.to_all[place].heard < now_running.plan->users) return;
    now_running.to_all[place].heard = 0;
    latency_note(now_running.last, now_ns() - now_running.to_all[place].at_ns);
    send_to_all();
}

static void send_first(const struct plan *plan) {
    for (size_t round = 0; round < plan->outstanding; round++) {
        if (plan->to_all) send_to_all();
        for (size_t user = 0; !plan->to_all && user < plan->users; user++) send_one(user, now_ns());
    }
}

static void run_closed(const struct plan *plan) {
    send_first(plan);
    audience.on_message = plan->to_all ? hear : send_next;
    while (now_ns() < now_running.stop_ns) {
        producer_flush();
        loop_turn(TURN_MS);
    }
    audience.on_message = NULL;
}

static void ring(struct watch *watch, uint32_t events) {
    uint64_t times;
    (void)events;
    if (read(watch->fd, &times, sizeof times) < 0) fail_call("reading the timer");
}

static struct watch *the_timer(void) {
    static struct watch timer = {.fd = -1, .ready = ring};
    if (timer.fd < 0) {
        timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        if (timer.fd < 0) fail_call("timerfd_create");
        loop_watch(&timer, EPOLLIN);
    }
    return &timer;
}

static void ring_at(uint64_t at_ns) {
    struct itimerspec when = {.it_value = {(time_t)(at_ns / SECOND_NS), (long)(at_ns % SECOND_NS)}};
    if (timerfd_settime(the_timer()->fd, TFD_TIMER_ABSTIME, &when, NULL) < 0) fail_call("timerfd_settime");
}

static void run_open(const struct plan *plan, struct outcome *outcome) {
    double apart_ns = (double)SECOND_NS / plan->rate;
    uint64_t began_ns = now_ns(), number = 0, due_ns = began_ns, now;
    while ((now = now_ns()) < now_running.stop_ns) {
        for (; due_ns <= now; due_ns = began_ns + (uint64_t)((double)++number * apart_ns)) {
            latency_note(&outcome->late, now - due_ns);
            if (producer_waiting() < WAITING_MAX_BYTES) send_one((size_t)(number % plan->users), due_ns);
            else outcome->stalled++;
        }
        producer_flush();
        ring_at(due_ns < now + PRECISION_NS ? now + PRECISION_NS : due_ns);
        loop_turn(TURN_MS);
    }
}

void run_dry(void) {
    uint64_t quiet_since_ns = now_ns(), received = audience.received;
    producer_flush();
    while (clients_missing() > 0 && now_ns() - quiet_since_ns < QUIET_S * SECOND_NS) {
        loop_turn(TURN_MS);
        if (audience.received != received) quiet_since_ns = now_ns();
        received = audience.received;
    }
}

void run_linger(void) {
    uint64_t until_ns = now_ns() + LINGER_MS * 1000000ull;
    while (now_ns() < until_ns) loop_turn(TURN_MS);
}

void run(const struct plan *plan, struct outcome *outcome) {
    struct spent before = loop_spent();
    if (plan->users == 0 || plan->users > audience.count) fail("%zu users are connected", audience.count);
    memset(outcome, 0, sizeof *outcome);
    clients_forget();
    if (plan->outstanding > TO_ALL_MAX && plan->to_all) fail("%d messages to all at a time", TO_ALL_MAX);
    if (plan->to_all) clients_align();
    memset(&now_running, 0, sizeof now_running);
    now_running.plan = plan;
    now_running.last = &outcome->last;
    now_running.stop_ns = now_ns() + (uint64_t)(plan->seconds * (double)SECOND_NS);
    if (plan->rate > 0) run_open(plan, outcome);
    else run_closed(plan);
    outcome->spent = loop_spent_since(before);
    outcome->sending_s = outcome->spent.clock;
    outcome->in_time = audience.received;
    run_dry();
    run_linger();
    outcome->sent = now_running.sent;
    clients_settle();
}
