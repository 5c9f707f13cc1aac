/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_kv.c - any bytes as a key of LMCache's (byte 0 even), or as the body of a KV verb (odd).
 *
 * A key that is taken is made of pieces of itself; a body is read, or refused with a sentence.
 */
#include "serve/kv_admin.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void within(struct lr_str whole, struct lr_str part)
{
    MUST(!part.n || (part.p >= whole.p && part.n <= whole.n &&
                     (size_t)(part.p - whole.p) <= whole.n - part.n));
}

static void check_key(struct lr_str name)
{
    struct lr_kv_key k;
    lr_kv_key_read(name, &k);
    if (!k.shape)
        return;
    within(name, k.model);
    within(name, k.hash);
    within(name, k.dtype);
    within(name, k.tag);
    MUST(k.model.n && k.hash.n && k.tag.p && k.dtype.p);
    MUST(!memchr(k.model.p, '@', k.model.n) && !memchr(k.hash.p, '@', k.hash.n));
}

static void check_body(struct lr_str text)
{
    struct lr_arena a;
    struct lr_json *o;
    struct lr_kv_ask ask;
    struct lr_err err = {0};
    lr_arena_init(&a, LR_MIB(64));
    if (!lr_json_parse(&a, text, NULL, &o, NULL) && o->type == LR_JSON_OBJECT) {
        int rc = lr_kv_ask_read(&a, o,
                                "tenant namespace keys ids tokens block model rank group salt ttl to "
                                "bytes all dry_run",
                                &ask, &err);
        MUST(!rc || rc == LR_ENOMEM || (rc == LR_EINVAL && err.msg[0]));
        if (!rc && ask.n_tokens && ask.model.p && !ask.n) {
            rc = lr_kv_ask_chain(&a, &ask);
            MUST(!rc || rc == LR_ENOMEM || rc == LR_EOVER);
            MUST(rc || ask.n == ask.n_tokens / ask.block || ask.n == LR_KV_KEYS_MAX);
        }
    }
    lr_arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 1)
        return 0;
    char *copy = malloc(n); /* of the exact length: a read beyond it is seen */
    MUST(copy);
    memcpy(copy, p, n);
    if (p[0] % 2)
        check_body(lr_str(copy + 1, n - 1));
    else
        check_key(lr_str(copy + 1, n - 1));
    free(copy);
    return 0;
}
