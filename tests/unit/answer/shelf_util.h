/* SPDX-License-Identifier: Apache-2.0
 * answer/shelf_util.h - for the tests of the shelf: keys and logs made from a number, own
 * directories.
 */
#ifndef SHELF_UTIL_H
#define SHELF_UTIL_H

#include "answer/answer_int.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static inline struct lr_digest key_of(uint64_t k)
{
    struct lr_digest d;
    lr_blake3(lr_str(&k, sizeof k), &d);
    return d;
}

/* The log of (key, version): every byte follows from both. */
static inline void fill_log(char *p, size_t n, uint64_t k, uint64_t version)
{
    struct lr_rng r;
    lr_rng_seed(&r, k * 1000003 + version);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)lr_rng_u64(&r);
}

static inline struct lr_doc_meta meta_of(uint64_t k, uint64_t now_ms, uint64_t ttl_ms)
{
    struct lr_doc_meta m = {.key = key_of(k),
                            .tenant = k % 3 + 1,
                            .created_ms = now_ms,
                            .ttl_ms = ttl_ms,
                            .took_ms = 100,
                            .tokens_out = 10,
                            .choices = 1};
    snprintf(m.model, sizeof m.model, "m%d", (int)(k % 4));
    return m;
}

static inline struct lr_ask ask_of(uint64_t k, uint64_t now_ms)
{
    return (struct lr_ask){.key = key_of(k),
                           .now_ms = now_ms,
                           .dialect = LR_DIALECT_CHAT,
                           .n = 1,
                           .max_age_ms = UINT64_MAX};
}

/* get, and load when cold. */
static inline enum lr_found look(struct lr_answer *s, const struct lr_ask *ask,
                                 struct lr_answer_hit *hit)
{
    enum lr_found f = lr_answer_get(s, ask, hit);
    if (f == LR_FOUND_COLD && lr_answer_load(s, &ask->key) == 0)
        f = lr_answer_get(s, ask, hit);
    return f;
}

static inline void make_dir(char out[64])
{
    snprintf(out, 64, "/tmp/lr-answer-XXXXXX");
    assert_non_null(mkdtemp(out));
}

static inline bool set_aside(const char *dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/answers.mdb.bad-1", dir);
    return access(path, F_OK) == 0;
}

static inline void remove_dir(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.')
            unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

#endif
