/* SPDX-License-Identifier: Apache-2.0
 * serve/listen.h - a listening socket from an address in words.
 */
#ifndef LR_SERVE_LISTEN_H
#define LR_SERVE_LISTEN_H

#include "base/base.h"

/* "host:port", "[::1]:port", ":port" (every IPv4 address); port 0 picks one. *out: a socket that does
 * not block and is not inherited; the caller's to close. */
int lr_listen_on(const char *text, int *out, struct lr_err *err);
/* The port that a listening socket has; 0: it is none. */
unsigned lr_listen_port(int fd);

#endif
