/* SPDX-License-Identifier: Apache-2.0
 * fuzz/fuzz_rows.c - saved rows and the state of a policy, from a store that anybody may have written to.
 *
 *   u8 which stack (0x80: the rest is the file as it is) | what lies between the head and the checksum
 *
 * Head and checksum are made right, so that what is behind them is reached. Rows are loaded or refused;
 * what was loaded is saved as the same bytes, and the sequence goes on: it may fail by a policy's word, not
 * otherwise.
 */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "broken: %s\n", #cond);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define HEAD 48u

static const struct {
    const char *stack, *budget;
} cases[] = {{"", ""}, {"h2o", "8"}, {"pyramid:window=4+snapkv:window=2", "50%"}, {"random", "5"},
             {"tova", "6"}, {"topread:rows=2", ""}, {"adakv:window=2", "300K"}};

static struct lr_engine *make_engine(void)
{
    char path[] = "/tmp/larder-fuzz-rows-XXXXXX";
    struct lr_engine_model *m;
    struct lr_engine *e;
    int fd = mkstemp(path);
    MUST(fd >= 0);
    close(fd);
    const struct lr_engine_random r = {.like = LR_STR("nano"), .type = LR_NN_F32, .seed = 1, .path = path};
    MUST(lr_engine_random(&r, NULL) == 0 && lr_engine_model_open(&m, path, NULL) == 0);
    unlink(path);
    MUST(lr_engine_open(&e, m, &(struct lr_engine_opts){.kv_max = LR_MIB(8)}, NULL) == 0);
    return e;
}

static struct lr_engine_seq *open_seq(struct lr_engine *e, size_t i)
{
    struct lr_engine_seq *s;
    struct lr_policy_stack stack;
    struct lr_engine_seq_opts o = {.policy = {.seed = 3}};
    MUST(lr_policy_stack_parse(lr_strz(cases[i].stack), &stack, NULL) == 0);
    MUST(lr_policy_budget_parse(lr_strz(cases[i].budget), &o.policy.budget, NULL) == 0);
    o.policy.stack = *cases[i].stack ? &stack : NULL;
    MUST(lr_engine_seq_open(&s, e, &o, NULL) == 0);
    return s;
}

/* The head of such a sequence is what it saves when it is empty. */
static size_t frame(struct lr_engine_seq *s, const uint8_t *data, size_t size, char *out)
{
    char empty[1024];
    size_t n = sizeof empty;
    MUST(lr_engine_seq_save(s, empty, &n) == 0 && n >= HEAD + 8);
    memcpy(out, empty, HEAD);
    memcpy(out + HEAD, data, size);
    if (size >= 4) /* the next position is the input's, too: its last bytes */
        lr_put_le32(out + 20, lr_le32(data + size - 4) % 1000);
    lr_put_le64(out + HEAD + size, lr_hash64(lr_str(out, HEAD + size), 0));
    return HEAD + size + 8;
}

static void go_on(struct lr_engine_seq *s, const char *bytes, size_t n)
{
    static const uint32_t tokens[] = {5, 6, 7};
    size_t again = n;
    char *copy = lr_alloc(n + 1);
    MUST(copy);
    int rc = lr_engine_seq_save(s, copy, &again);
    MUST(rc == 0 && again == n && memcmp(copy, bytes, n) == 0);
    lr_free(copy);
    rc = lr_engine_feed_as(s, tokens, 1, LR_POLICY_TOKEN, NULL, NULL, NULL);
    if (!rc)
        rc = lr_engine_feed(s, tokens, 3, NULL, NULL, NULL);
    if (!rc)
        (void)lr_engine_seq_turn_end(s, NULL); /* a policy's own rows may be nonsense: its failure */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct lr_engine *e;
    static char bytes[65536 + HEAD + 8];
    e = e ? e : make_engine();
    if (size < 1 || size > 65536)
        return 0;
    struct lr_engine_seq *s = open_seq(e, (data[0] & 0x7f) % LR_COUNT(cases));
    size_t n = size - 1;
    if (data[0] & 0x80)
        memcpy(bytes, data + 1, n);
    else
        n = frame(s, data + 1, n, bytes);
    int rc = lr_engine_seq_load(s, bytes, n);
    if (rc == 0)
        go_on(s, bytes, n);
    else
        MUST(lr_engine_seq_len(s) == 0 && lr_engine_rows(s, 0, 0) == 0);
    lr_engine_seq_close(s);
    return 0;
}
