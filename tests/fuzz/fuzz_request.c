/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_request.c - any bytes as a client's request of any dialect (byte 0, modulo).
 *
 * What is refused says where and why. What is accepted is forwarded as a body that reads the same
 * again, and translated into bodies that their own dialects accept.
 */
#include "dialect/dialect_int.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_accepted(struct lr_arena *a, enum lr_dialect_id d, struct lr_str body)
{
    struct lr_request *r;
    struct lr_err err = {0};
    int rc = lr_request_parse(a, d, body, &r, &err);
    if (rc)
        fprintf(stderr, "%s at %s: %s\n%.*s\n", lr_dialect_name(d), err.where, err.msg, (int)body.n,
                body.p);
    MUST(rc == 0);
    MUST(lr_str_is(r->model, "model-b"));
}

static void check_forward(struct lr_arena *a, const struct lr_request *r)
{
    struct lr_buf out;
    struct lr_request *again;
    lr_buf_init(&out, LR_MIB(16));
    MUST(lr_request_forward(a, r, r->model, &out) == 0);
    bool asks = r->dialect == LR_DIALECT_CHAT || r->dialect == LR_DIALECT_COMPLETION;
    if (!asks || !r->stream || r->include_usage)
        MUST(lr_str_eq(lr_buf_str(&out), r->body));
    lr_buf_reset(&out);
    MUST(lr_request_forward(a, r, LR_STR("model-b"), &out) == 0);
    check_accepted(a, r->dialect, lr_buf_str(&out));
    MUST(lr_request_parse(a, r->dialect, lr_buf_str(&out), &again, NULL) == 0);
    MUST(again->stream == r->stream && again->n == r->n && again->max_tokens == r->max_tokens);
    MUST(!asks || !r->stream || again->include_usage);
    MUST((again->bypass == NULL) == (r->bypass == NULL));
    lr_buf_free(&out);
}

static void check_translations(struct lr_arena *a, const struct lr_request *r)
{
    for (unsigned d = 1; d < LR_DIALECT_N; d++) {
        struct lr_buf out, dropped;
        struct lr_err err = {0};
        lr_buf_init(&out, LR_MIB(16));
        lr_buf_init(&dropped, LR_KIB(64));
        int rc = lr_request_write(r, (enum lr_dialect_id)d, LR_STR("model-b"), 4096, &out, &dropped,
                                  &err);
        MUST(rc == 0 || err.msg[0] || rc == LR_ENOMEM || rc == LR_EOVER);
        if (!rc)
            check_accepted(a, (enum lr_dialect_id)d, lr_buf_str(&out));
        lr_buf_free(&out);
        lr_buf_free(&dropped);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 1)
        return 0;
    enum lr_dialect_id d = (enum lr_dialect_id)(1 + p[0] % (LR_DIALECT_N - 1));
    struct lr_arena a;
    struct lr_request *r;
    struct lr_err err = {0};
    lr_arena_init(&a, LR_MIB(256));
    int rc = lr_request_parse(&a, d, lr_str(p + 1, n - 1), &r, &err);
    MUST(rc == 0 || (err.msg[0] && err.code == rc) || rc == LR_ENOMEM);
    if (!rc) {
        check_forward(&a, r);
        check_translations(&a, r);
    }
    lr_arena_free(&a);
    return 0;
}
