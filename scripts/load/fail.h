/* The one way to give up: a line on standard error, and exit code 1. A figure of a half-broken run would be worse than none. */

#ifndef FAIL_H
#define FAIL_H

_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, with what the system says of the call that has just failed. */
_Noreturn void fail_call(const char *what);

#endif
