/* The load generator of scripts/bench: audience and producer in one thread, so that one clock times every delivery.

       load --dialect FOLDER --publish ADDRESS --protocol redis --lines 1 --edge HOST:PORT [--edge …] --users FILE

   FOLDER says how the system is spoken to (dialect.h), ADDRESS who takes publications, how it replies (replies.h), and on how
   many connections. FILE has a line for each of the users u0000000, u0000001 …: the number of its publication and its token.
   Each line on standard input is a command, `name key=value …`; each is answered by one line of JSON. The end of the input
   ends the program.

       connect count=1000 at_once=64 query=since=0 owed=100000   (messages that somebody else has stored for each)
       run publication=PATH publications=1 to_all=0 users=1000 seconds=5 outstanding=4      (or rate=1000)
       replayed                   wait for the messages that are owed
       state

   Between commands it answers pings. When anything breaks it says so on standard error and exits with 1. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "buffer.h"
#include "clients.h"
#include "dialect.h"
#include "fail.h"
#include "loop.h"
#include "net.h"
#include "producer.h"
#include "run.h"

enum { VALUE_MAX = 1024, COMMAND_READ = 8192 };

static struct {
    struct seats seats;
    unsigned char *publications;
    size_t user_count;
} given;

static struct buffer commands;
static int input_ended;

/* Put the value of a key in a command into `value`; tell whether there is one. */
static bool option(const char *command, const char *key, char value[VALUE_MAX]) {
    char wanted[VALUE_MAX];
    snprintf(wanted, sizeof wanted, " %s=", key);
    const char *found = strstr(command, wanted);
    value[0] = '\0';
    if (found == NULL) return false;
    found += strlen(wanted);
    snprintf(value, VALUE_MAX, "%.*s", (int)strcspn(found, " "), found);
    return true;
}

static double number(const char *command, const char *key, double otherwise) {
    char text[VALUE_MAX];
    return option(command, key, text) ? atof(text) : otherwise;
}

static size_t count(const char *command, const char *key, size_t otherwise) {
    return (size_t)number(command, key, (double)otherwise);
}

static void print_spent(struct spent spent) {
    printf("\"seconds\":%.6f,\"cpu_s\":%.4f,\"asleep_s\":%.4f,\"without_core_s\":%.4f", spent.clock, spent.cpu, spent.asleep,
           spent.without_core);
}

static void print_faults(void) {
    printf("\"received\":%llu,\"lost\":%llu,\"duplicated\":%llu,\"out_of_order\":%llu,\"closed\":%zu",
           (unsigned long long)audience.received, (unsigned long long)audience.faults.lost,
           (unsigned long long)audience.faults.duplicated, (unsigned long long)audience.faults.out_of_order, audience.closed);
}

static void print_latency(const char *name, const struct latency *latency) {
    printf("\"%s\":{\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}", name, latency_us(latency, 0.5),
           latency_us(latency, 0.99), latency_us(latency, 0.999), latency_us(latency, 1));
}

static void command_connect(const char *command) {
    struct spent before = loop_spent();
    size_t wanted = count(command, "count", 1);
    if (wanted > given.user_count) fail("there are %zu users", given.user_count);
    static char query[VALUE_MAX];
    option(command, "query", query);
    given.seats.query = query;
    given.seats.owed = count(command, "owed", 0);
    clients_connect(wanted, count(command, "at_once", 64), &given.seats);
    printf("{\"open\":%zu,", audience.open);
    print_spent(loop_spent_since(before));
    puts("}");
}

static void command_run(const char *command) {
    static struct outcome outcome;
    struct plan plan = {
        .users = count(command, "users", audience.count),
        .outstanding = count(command, "outstanding", 1),
        .rate = number(command, "rate", 0),
        .seconds = number(command, "seconds", 1),
        .to_all = count(command, "to_all", 0) != 0,
        .publications = given.publications,
    };
    char path[VALUE_MAX];
    option(command, "publication", path);
    producer_prepare(path, count(command, "publications", 1));
    run(&plan, &outcome);
    printf("{\"sent\":%llu,\"in_time\":%llu,\"sending_s\":%.6f,\"refused\":%llu,\"stalled\":%llu,",
           (unsigned long long)outcome.sent, (unsigned long long)outcome.in_time, outcome.sending_s,
           (unsigned long long)producer_refused(), (unsigned long long)outcome.stalled);
    print_faults();
    putchar(',');
    print_latency("latency_us", &audience.latency);
    putchar(',');
    print_latency("last_us", &outcome.last);
    putchar(',');
    print_latency("late_us", &outcome.late);
    putchar(',');
    print_spent(outcome.spent);
    puts("}");
}

static void command_replayed(void) {
    struct spent before = loop_spent();
    run_dry();
    struct spent spent = loop_spent_since(before);
    run_linger();
    clients_settle();
    putchar('{');
    print_faults();
    putchar(',');
    print_spent(spent);
    puts("}");
}

static void command_state(void) {
    putchar('{');
    print_faults();
    putchar(',');
    print_spent(loop_spent());
    puts("}");
}

static void obey(const char *command) {
    if (strncmp(command, "connect", 7) == 0) command_connect(command);
    else if (strncmp(command, "run", 3) == 0) command_run(command);
    else if (strncmp(command, "replayed", 8) == 0) command_replayed();
    else if (strncmp(command, "state", 5) == 0) command_state();
    else fail("no command: %s", command);
    fflush(stdout);
}

static void read_commands(struct watch *watch, uint32_t events) {
    (void)events;
    ssize_t got = read(watch->fd, buffer_reserve(&commands, COMMAND_READ), COMMAND_READ);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) input_ended = 1;
    else buffer_grew(&commands, (size_t)got);
}

static void obey_all(void) {
    const char *newline;
    while (buffer_length(&commands) > 0
           && (newline = memchr(buffer_front(&commands), '\n', buffer_length(&commands))) != NULL) {
        size_t length = (size_t)(newline - buffer_front(&commands));
        char *command = strndup(buffer_front(&commands), length);
        buffer_take(&commands, length + 1);
        obey(command);
        free(command);
    }
}

static char *read_line(FILE *file) {
    char *line = NULL;
    size_t room = 0;
    ssize_t length = getline(&line, &room, file);
    if (length > 0 && line[length - 1] == '\n') line[length - 1] = '\0';
    if (length > 0) return line;
    free(line);
    return NULL;
}

/* NUMBER TOKEN */
static void add_user(char *line) {
    size_t user = given.user_count++;
    given.seats.tokens = realloc(given.seats.tokens, given.user_count * sizeof *given.seats.tokens);
    given.publications = realloc(given.publications, given.user_count);
    if (given.seats.tokens == NULL || given.publications == NULL) fail("out of memory");
    given.publications[user] = (unsigned char)strtoul(line, &given.seats.tokens[user], 10);
    given.seats.tokens[user] += *given.seats.tokens[user] == ' ';
}

static void read_users(const char *path) {
    FILE *file = fopen(path, "r");
    if (file == NULL) fail_call(path);
    char *line;
    while ((line = read_line(file)) != NULL) add_user(line);
    fclose(file);
}

static void add_edge(char *edge) {
    if (given.seats.edge_count == EDGES_MAX) fail("%d edges at most", EDGES_MAX);
    given.seats.edges[given.seats.edge_count++] = edge;
}

static void read_arguments(int count_of_words, char **words) {
    const char *address = NULL, *protocol = "redis";
    size_t lines = 1;
    for (int at = 1; at + 1 < count_of_words; at += 2) {
        if (strcmp(words[at], "--dialect") == 0) dialect_read(words[at + 1]);
        else if (strcmp(words[at], "--publish") == 0) address = words[at + 1];
        else if (strcmp(words[at], "--protocol") == 0) protocol = words[at + 1];
        else if (strcmp(words[at], "--lines") == 0) lines = strtoul(words[at + 1], NULL, 10);
        else if (strcmp(words[at], "--users") == 0) read_users(words[at + 1]);
        else if (strcmp(words[at], "--edge") == 0) add_edge(words[at + 1]);
        else fail("no option: %s", words[at]);
    }
    if (address == NULL || given.seats.edge_count == 0 || given.user_count == 0)
        fail("--dialect, --publish, --edge and --users are required");
    producer_open(address, protocol, lines);
}

int main(int count_of_words, char **words) {
    struct watch input = {.fd = STDIN_FILENO, .ready = read_commands};
    signal(SIGPIPE, SIG_IGN);
    net_allow_many();
    read_arguments(count_of_words, words);
    if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) < 0) fail_call("fcntl");
    loop_watch(&input, EPOLLIN);
    while (!input_ended) {
        loop_turn(-1);
        obey_all();
    }
    return 0;
}
