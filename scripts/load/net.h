/* Sockets, none of which ever blocks once it is connected. */

#ifndef NET_H
#define NET_H

/* Return a connected socket to `HOST:PORT` (an IPv4 address, or `localhost`) or to the path of a unix socket. */
int net_connect(const char *address);

/* Return a listening socket on 127.0.0.1. */
int net_listen(int port);

/* Return a new connection of a listening socket, or -1 when none waits. */
int net_accept(int listener);

/* Allow as many open files as the system lets us have. */
void net_allow_many(void);

#endif
