/* SPDX-License-Identifier: Apache-2.0
 * Saved rows of every version ever written are read for ever: tests/golden/engine/rows-v*.bin, of the
 * format docs/formats/rows.md. What was read is saved again as the same bytes, and means what was meant.
 * With the argument "write" it writes the files of the version it has; they are never written anew.
 */
#include "engine_kit.h"

#define GOLDEN LR_SOURCE_DIR "/tests/golden/engine/rows-v"
#define TOKENS 40u
#define BUDGET 7u
#define STATE  0x5eedu

/* ---- a policy with everything a policy may have in a file ---- */

struct watch {
    const struct lr_policy_api *api;
    uint32_t word;    /* its own bytes */
    uint64_t drawn;   /* the last random number */
    bool columns_are; /* column 0 of every row was its position */
};
static struct watch *newest;

static int open_watch(void **st, const struct lr_policy_open *o)
{
    newest = calloc(1, sizeof *newest);
    newest->api = o->api;
    newest->word = STATE;
    *st = newest;
    return 0;
}

static int need_all(void *st, uint32_t layer, uint32_t phase, struct lr_policy_need *out)
{
    (void)st;
    (void)layer;
    (void)phase;
    out->taps = LR_POLICY_TAP_ACOL;
    return 0;
}

static int edit_watch(void *st, struct lr_policy_seq *q, const struct lr_policy_edit *e)
{
    struct watch *w = st;
    w->drawn = w->api->rng(q);
    w->columns_are = true;
    for (uint32_t h = 0; h < 2; h++) {
        struct lr_policy_rows *r = w->api->rows(q, e->layer, h);
        uint32_t n = w->api->count(r), budget = e->budget[e->layer * 2 + h];
        float *c = w->api->column(r, 0);
        const struct lr_policy_row *m = w->api->meta(r);
        if (!c || !m)
            return LR_POLICY_ENOMEM;
        for (uint32_t i = 0; i < n; i++) {
            w->columns_are &= e->phase != LR_POLICY_TURN_END || c[i] == (float)m[i].pos;
            c[i] = (float)m[i].pos;
        }
        int rc = w->api->keep_best(r, w->api->attention(r, 0), budget);
        if (rc)
            return rc;
    }
    return 0;
}

static int save_word(void *st, void *buf, size_t *n)
{
    const struct watch *w = st;
    if (buf)
        memcpy(buf, &w->word, sizeof w->word);
    *n = sizeof w->word;
    return 0;
}

static int load_word(void *st, const void *buf, size_t n)
{
    struct watch *w = st;
    if (n != sizeof w->word)
        return LR_POLICY_EVERSION;
    memcpy(&w->word, buf, n);
    return 0;
}

static const struct lr_policy golden_policy = {.abi = LR_POLICY_ABI, .size = sizeof golden_policy,
                                               .name = "golden", .what = "of the tests", .columns = 1,
                                               .open = open_watch, .close = free, .need = need_all,
                                               .edit = edit_watch, .save = save_word, .load = load_word};

/* ---- */

struct rig {
    struct lr_engine_model *m;
    struct lr_engine *e;
};

static void rig_open(struct rig *r)
{
    r->m = kit_model((struct spec){.arch = "llama", .n_layer = 2, .n_embd = 32, .d_head = 8}, 5);
    r->e = kit_engine(r->m, 1, "f16");
}

static void rig_close(struct rig *r)
{
    lr_engine_close(r->e);
    lr_engine_model_close(r->m);
}

/* Version 2 has the policy, and budgets from another one; version 1 has neither. */
static struct lr_engine_seq *open_seq(struct rig *r, int version)
{
    struct lr_engine_seq *s;
    struct lr_policy_stack stack;
    struct lr_engine_seq_opts o = {.policy = {.seed = 11, .budget = {.kind = LR_POLICY_BUDGET_ROWS,
                                                                     .rows = BUDGET}}};
    OK(lr_policy_stack_parse(LR_STR("pyramid:window=4+golden"), &stack, &kit_err));
    o.policy.stack = &stack;
    if (version == 1)
        o = (struct lr_engine_seq_opts){0};
    OK(lr_engine_seq_open(&s, r->e, &o, &kit_err));
    return s;
}

static void read_golden(int version, struct lr_buf *b)
{
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%d.bin", version);
    lr_buf_init(b, LR_MIB(1));
    assert_int_equal(lr_io_read_file(path, b), 0);
}

static void golden_files_are_read_and_written_again(void **state)
{
    struct rig r;
    (void)state;
    rig_open(&r);
    for (int version = 1; version <= 2; version++) {
        struct lr_buf b;
        struct lr_engine_row row[TOKENS];
        read_golden(version, &b);
        assert_int_equal(b.p[7], version);
        struct lr_engine_seq *s = open_seq(&r, version);
        if (version == 2)
            newest->word = 0;
        OK(lr_engine_seq_load(s, b.p, b.len));
        uint32_t len = version == 1 ? 3 : TOKENS;
        assert_int_equal(lr_engine_seq_len(s), len);
        size_t n = lr_engine_rows(s, 1, 1), again = b.len;
        assert_true(version == 1 ? n == len : n <= 2 * BUDGET);
        OK(lr_engine_rows_get(s, 1, 1, 0, n, row));
        for (size_t i = 0; i < n; i++)
            assert_true(row[i].pos >= (i ? row[i - 1].pos + 1 : 0) && row[i].pos < (int32_t)len);
        assert_true(row[n - 1].tag == 0x1234 && row[n - 1].bias == -0.5f);
        char *copy = lr_alloc(b.len);
        OK(lr_engine_seq_save(s, copy, &again));
        assert_int_equal(again, b.len);
        assert_memory_equal(copy, b.p, b.len);
        lr_free(copy);
        if (version == 2) {
            assert_int_equal(newest->word, STATE);
            OK(lr_engine_seq_turn_end(s, &kit_err));
            assert_true(newest->columns_are);
        }
        OK(lr_engine_feed(s, (uint32_t[]){1, 2, 3}, 3, NULL, NULL, &kit_err));
        lr_engine_seq_close(s);
        lr_buf_free(&b);
    }
    rig_close(&r);
}

static void another_version_is_one_clear_error(void **state)
{
    static const struct {
        int have, say; /* the file, and the version it is made to say */
    } all[] = {{1, 0}, {1, 3}, {1, 2}, {2, 1}, {2, 3}, {2, 255}};
    struct rig r;
    (void)state;
    rig_open(&r);
    for (size_t i = 0; i < LR_COUNT(all); i++)
        for (int sum = 0; sum < 2; sum++) { /* the checksum is there, or is something else */
            struct lr_buf b;
            read_golden(all[i].have, &b);
            b.p[7] = (char)all[i].say;
            if (sum)
                lr_put_le64(b.p + b.len - 8, lr_hash64(lr_str(b.p, b.len - 8), 0));
            struct lr_engine_seq *s = open_seq(&r, all[i].have);
            assert_int_equal(lr_engine_seq_load(s, b.p, b.len), LR_EVERSION);
            assert_int_equal(lr_engine_rows(s, 0, 0), 0);
            b.p[7] = (char)all[i].have; /* nothing was begun: the right one can still come */
            lr_put_le64(b.p + b.len - 8, lr_hash64(lr_str(b.p, b.len - 8), 0));
            OK(lr_engine_seq_load(s, b.p, b.len));
            lr_engine_seq_close(s);
            lr_buf_free(&b);
        }
    rig_close(&r);
}

/* Every bit counts: the checksum, or a field's own check. */
static void damaged_golden_files_load_nothing(void **state)
{
    struct rig r;
    struct lr_buf b;
    (void)state;
    rig_open(&r);
    read_golden(2, &b);
    for (size_t at = 0; at < b.len; at += at < 64 ? 1 : 37) {
        struct lr_engine_seq *s = open_seq(&r, 2);
        b.p[at] = (char)(b.p[at] ^ 8);
        assert_int_not_equal(lr_engine_seq_load(s, b.p, b.len), 0);
        assert_int_equal(lr_engine_rows(s, 0, 0), 0);
        b.p[at] = (char)(b.p[at] ^ 8);
        lr_engine_seq_close(s);
    }
    lr_buf_free(&b);
    rig_close(&r);
}

/* ---- writing ---- */

static void write_golden(void **state)
{
    struct rig r;
    uint32_t tokens[TOKENS];
    (void)state;
    rig_open(&r);
    kit_tokens(tokens, TOKENS, 61, 9);
    for (int version = 1; version <= 2; version++) {
        char path[512];
        size_t n = 0;
        struct lr_engine_seq *s = open_seq(&r, version);
        OK(lr_engine_feed(s, tokens, version == 1 ? 3 : TOKENS, NULL, NULL, &kit_err));
        for (uint32_t i = 0; i < 4; i++) {
            size_t last = lr_engine_rows(s, i / 2, i % 2) - 1;
            OK(lr_engine_rows_tag(s, i / 2, i % 2, last, 0x1234));
            OK(lr_engine_rows_write(s, i / 2, i % 2, last, NULL, NULL, -0.5f));
        }
        OK(lr_engine_seq_save(s, NULL, &n));
        char *p = lr_alloc(n);
        OK(lr_engine_seq_save(s, p, &n));
        snprintf(path, sizeof path, GOLDEN "%d.bin", version);
        OK(lr_io_write_file(path, lr_str(p, n), 0644));
        lr_free(p);
        lr_engine_seq_close(s);
    }
    rig_close(&r);
}

int main(int argc, char **argv)
{
    static const struct lr_policy *const policies[] = {&golden_policy, NULL};
    static const struct lr_policy_plugin list = {.abi = LR_POLICY_ABI, .size = sizeof list,
                                                 .policies = policies};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_files_are_read_and_written_again),
        cmocka_unit_test(another_version_is_one_clear_error),
        cmocka_unit_test(damaged_golden_files_load_nothing),
    };
    const struct CMUnitTest writing[] = {cmocka_unit_test(write_golden)};
    if (lr_policy_register(&list, NULL))
        return 1;
    if (argc > 1 && strcmp(argv[1], "write") == 0)
        return cmocka_run_group_tests(writing, kit_setup, kit_teardown);
    return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
