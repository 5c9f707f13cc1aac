/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_resp.c - what the Redis door makes of bytes. The same input is fed whole, byte by byte and
 * in pieces that its first byte chooses: the events, the arguments and the bytes of big arguments must
 * be the same.
 */
#include "serve/resp_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

struct told {
    uint64_t hash;
    struct lr_resp_parser parser;
    uint8_t *value;
    uint64_t room;
};

static void tell(struct told *t, const void *p, size_t n)
{
    t->hash = lr_hash64(lr_str(p, n), t->hash);
}

static void tell_number(struct told *t, uint64_t n)
{
    tell(t, &n, sizeof n);
}

/* Room for a part of a big argument; what was put into the last is told. */
static void place(struct told *t)
{
    struct lr_resp_parser *p = &t->parser;
    tell(t, t->value, t->value ? t->room : 0);
    lr_free(t->value);
    t->room = p->need < 40000 ? p->need : 40000;
    t->value = p->need % 3 ? lr_calloc(1, t->room) : NULL;
    p->sink = t->value;
    p->room = t->room;
    tell_number(t, p->need);
}

static void command(struct told *t)
{
    struct lr_resp_parser *p = &t->parser;
    size_t key;
    tell(t, t->value, t->value ? t->room : 0);
    lr_free(t->value);
    t->value = NULL;
    tell_number(t, p->n);
    for (size_t i = 0; i < p->n; i++) {
        struct lr_str s = lr_resp_arg(p, i);
        tell_number(t, p->args[i].n);
        tell(t, s.p, s.n);
    }
    tell_number(t, p->n && lr_resp_stores(p, &key));
    lr_resp_next(p);
}

/* All events of the input, `step` bytes at a time (0: as the input says). */
static uint64_t run(const uint8_t *in, size_t n, size_t step)
{
    struct told t = {.hash = 1};
    bool broken = false;
    lr_resp_init(&t.parser, 1000, LR_MIB(1));
    for (size_t at = 0; at < n && !broken;) {
        size_t k = step ? step : 1 + (in[at] ^ in[0]) % 37u, used;
        k = k < n - at ? k : n - at;
        for (size_t done = 0; !broken;) {
            enum lr_resp_event e = lr_resp_feed(&t.parser, (const char *)in + at + done, k - done, &used);
            done += used;
            if (done > k)
                abort();
            if (e == LR_RESP_MORE) {
                if (done != k)
                    abort();
                break;
            }
            if (e == LR_RESP_VALUE)
                place(&t);
            else if (e == LR_RESP_COMMAND)
                command(&t);
            else
                broken = true;
        }
        at += k;
    }
    if (broken)
        tell(&t, t.parser.fault ? t.parser.fault : "", t.parser.fault ? strlen(t.parser.fault) : 0);
    tell_number(&t, broken);
    lr_free(t.value);
    lr_resp_free(&t.parser);
    return t.hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (!n)
        return 0;
    uint64_t whole = run(p, n, n);
    if (run(p, n, 1) != whole || run(p, n, 0) != whole)
        abort();
    return 0;
}
