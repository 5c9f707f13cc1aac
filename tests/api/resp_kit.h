/* SPDX-License-Identifier: Apache-2.0
 * api/resp_kit.h - what the tests of the Redis door share.
 */
#ifndef LR_TESTS_API_RESP_KIT_H
#define LR_TESTS_API_RESP_KIT_H

#include "kit.h"

/* The port that the daemon says its Redis door has. */
static inline int resp_port(const struct gw *g)
{
    static char text[65536];
    FILE *f = fopen(g->log, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    static const char said[] = "event=resp port=";
    const char *last = NULL; /* the log goes on over restarts */
    for (const char *at = text; (at = strstr(at, said)); at++)
        last = at;
    assert_non_null(last);
    return atoi(last + strlen(said));
}

#endif
