#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fail.h"

enum { BACKLOG = 4096, HOST_MAX = 64 };

static struct sockaddr_in ipv4(const char *address) {
    char host[HOST_MAX];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon - address >= HOST_MAX) fail("%s is no HOST:PORT", address);
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    const char *numbers = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    if (inet_pton(AF_INET, numbers, &name.sin_addr) != 1) fail("%s is no IPv4 address", host);
    return name;
}

static void set_up(int fd) {
    int on = 1;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) fail_call("fcntl");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  /* means nothing to a unix socket, and fails there */
}

static int connect_to(int family, const void *name, socklen_t length, const char *address) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail_call("socket");
    if (connect(fd, name, length) < 0) fail("connecting to %s: %s", address, strerror(errno));
    set_up(fd);
    return fd;
}

int net_connect(const char *address) {
    if (*address != '/') {
        struct sockaddr_in name = ipv4(address);
        return connect_to(AF_INET, &name, sizeof name, address);
    }
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", address);
    return connect_to(AF_UNIX, &name, sizeof name, address);
}

int net_listen(int port) {
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (fd < 0) fail_call("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || listen(fd, BACKLOG) < 0) fail_call("listen");
    set_up(fd);
    return fd;
}

int net_accept(int listener) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0 && errno != EAGAIN) fail_call("accept");
    if (fd >= 0) set_up(fd);
    return fd;
}

void net_allow_many(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}
