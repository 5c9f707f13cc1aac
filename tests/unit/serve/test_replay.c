/* SPDX-License-Identifier: Apache-2.0
 * unit/serve/test_replay.c - a replay from a stencil is what the encoder writes, whatever the form,
 * the id and the time; and a table that is too small or out of memory only costs time.
 */
#include "serve/serve_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define SEED  20241
#define DOCS  12
#define LAPS  400
#define TEXTS 5

static const char *const texts[TEXTS] = {
    "", "plain", "aaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbb",
    "1700000000 1700000001 2811111111 2222222222", "\"quoted\"\n\xC3\xA9 \\ 1"};

static void event(struct lr_buf *log, struct lr_event ev)
{
    assert_int_equal(lr_event_append(log, &ev), 0);
}

/* An answer with a text, a tool call, or both; two choices now and then. */
static struct lr_doc *make(struct lr_rng *rng)
{
    struct lr_buf log;
    struct lr_doc *doc;
    struct lr_doc_meta meta = {.choices = 1};
    lr_buf_init(&log, LR_KIB(64));
    event(&log,
          (struct lr_event){.type = LR_EV_START, .a = LR_STR("own-id"), .b = LR_STR("model")});
    for (uint16_t c = 0; c < 1 + lr_rng_below(rng, 2); c++) {
        uint16_t part = 0;
        struct lr_str text = lr_strz(texts[lr_rng_below(rng, TEXTS)]);
        event(&log, (struct lr_event){.type = LR_EV_PART, .choice = c, .sub = LR_PART_TEXT});
        if (text.n)
            event(&log, (struct lr_event){.type = LR_EV_DELTA, .choice = c, .a = text});
        event(&log, (struct lr_event){.type = LR_EV_PART_END, .choice = c});
        if (lr_rng_below(rng, 2)) {
            part++;
            event(&log, (struct lr_event){.type = LR_EV_PART,
                                          .choice = c,
                                          .part = part,
                                          .sub = LR_PART_TOOL_CALL,
                                          .a = LR_STR("call_own"),
                                          .b = LR_STR("look")});
            event(&log, (struct lr_event){.type = LR_EV_DELTA,
                                          .choice = c,
                                          .part = part,
                                          .a = LR_STR("{\"at\":1700000000}")});
            event(&log, (struct lr_event){.type = LR_EV_PART_END, .choice = c, .part = part});
        }
        event(&log, (struct lr_event){.type = LR_EV_FINISH,
                                      .choice = c,
                                      .sub = part ? LR_FINISH_TOOL : LR_FINISH_STOP});
    }
    event(&log, (struct lr_event){.type = LR_EV_USAGE,
                                  .usage = {.known = true, .input = 7, .output = 9}});
    event(&log, (struct lr_event){.type = LR_EV_END});
    struct lr_buf bytes;
    lr_buf_init(&bytes, LR_KIB(128));
    assert_int_equal(lr_doc_encode(&meta, lr_buf_str(&log), &bytes), 0);
    assert_int_equal(lr_doc_decode(lr_buf_str(&bytes), &doc), 0);
    lr_buf_free(&bytes);
    lr_buf_free(&log);
    return doc;
}

static void draw_opts(struct lr_rng *rng, struct lr_encoder_opts *o)
{
    static const enum lr_dialect_id dialects[] = {LR_DIALECT_CHAT, LR_DIALECT_COMPLETION,
                                                  LR_DIALECT_MESSAGES, LR_DIALECT_RESPONSES};
    *o = (struct lr_encoder_opts){
        .dialect = dialects[lr_rng_below(rng, LR_COUNT(dialects))],
        .stream = lr_rng_below(rng, 2),
        .include_usage = lr_rng_below(rng, 2),
        .fresh_ids = true,
        .created_s = lr_rng_below(rng, 10) ? 1700000000 + lr_rng_below(rng, 1000000000) : 5,
        .choices_max = (uint16_t)(1 + lr_rng_below(rng, 2)),
        .whole_max = LR_MIB(1),
    };
    for (size_t i = 0; i < LR_ID_LEN; i++)
        o->id[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[lr_rng_below(rng, 36)];
}

static void compare(struct lr_replays *t, const struct lr_doc *doc, const struct lr_encoder_opts *o)
{
    struct lr_buf want, got;
    struct lr_replays *fresh; /* the twin: has no stencil yet */
    lr_buf_init(&want, LR_MIB(1));
    lr_buf_init(&got, LR_MIB(1));
    assert_int_equal(lr_replays_open(&fresh, 0), 0);
    int rc = lr_replay_write(fresh, doc, o, &want);
    lr_replays_close(fresh);
    assert_int_equal(lr_replay_write(t, doc, o, &got), rc);
    if (!rc) {
        assert_int_equal(got.len, want.len);
        assert_memory_equal(got.p, want.p, want.len);
    }
    lr_buf_free(&want);
    lr_buf_free(&got);
}

static void compare_many(uint64_t bytes_max)
{
    struct lr_rng rng;
    struct lr_replays *t;
    struct lr_doc *docs[DOCS];
    struct lr_encoder_opts o;
    lr_rng_seed(&rng, SEED);
    print_message("seed %d\n", SEED);
    assert_int_equal(lr_replays_open(&t, bytes_max), 0);
    for (size_t i = 0; i < DOCS; i++)
        docs[i] = make(&rng);
    for (size_t i = 0; i < LAPS * DOCS; i++) {
        draw_opts(&rng, &o);
        compare(t, docs[lr_rng_below(&rng, DOCS)], &o);
    }
    for (size_t i = 0; i < DOCS; i++)
        lr_doc_unref(docs[i]);
    lr_replays_close(t);
}

static void a_replay_is_what_the_encoder_writes(void **state)
{
    (void)state;
    compare_many(LR_MIB(16));
}

static void a_small_table_forgets_and_stays_right(void **state)
{
    (void)state;
    compare_many(LR_KIB(4));
    compare_many(0);
}

static void a_document_made_again_is_another(void **state)
{
    (void)state;
    struct lr_rng rng;
    struct lr_replays *t;
    struct lr_encoder_opts o;
    lr_rng_seed(&rng, SEED);
    assert_int_equal(lr_replays_open(&t, LR_MIB(1)), 0);
    draw_opts(&rng, &o);
    for (int i = 0; i < 100; i++) { /* the allocator gives the same address again and again */
        struct lr_doc *doc = make(&rng);
        compare(t, doc, &o);
        compare(t, doc, &o);
        lr_doc_unref(doc);
    }
    lr_replays_close(t);
}

/* Allocations tell the stencil from the encoder. */
static void the_second_replay_is_a_copy(void **state)
{
    (void)state;
    struct lr_rng rng;
    struct lr_replays *t;
    struct lr_encoder_opts o = {.dialect = LR_DIALECT_MESSAGES, .stream = true, .fresh_ids = true};
    lr_rng_seed(&rng, SEED);
    struct lr_doc *doc = make(&rng);
    memcpy(o.id, "abcdefghijklmnopqrstuvwx", LR_ID_LEN);
    o.created_s = 1700000000;
    assert_int_equal(lr_replays_open(&t, LR_MIB(1)), 0);
    for (int i = 0; i < 3; i++) {
        struct lr_buf out;
        lr_buf_init(&out, LR_MIB(1));
        assert_int_equal(lr_fault_arm(1000000), 0);
        assert_int_equal(lr_replay_write(t, doc, &o, &out), 0);
        assert_true(i ? lr_fault_seen() == 1 : lr_fault_seen() > 4);
        lr_fault_arm(0);
        lr_buf_free(&out);
    }
    lr_replays_close(t);
    lr_doc_unref(doc);
}

static void no_memory_is_an_error_or_no_stencil(void **state)
{
    (void)state;
    struct lr_rng rng;
    struct lr_encoder_opts o;
    lr_rng_seed(&rng, SEED);
    struct lr_doc *doc = make(&rng);
    do
        draw_opts(&rng, &o);
    while (o.dialect != LR_DIALECT_CHAT || o.created_s < 100);
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct lr_replays *t = NULL;
        struct lr_buf out;
        lr_buf_init(&out, LR_MIB(1));
        assert_int_equal(lr_fault_arm(n), 0);
        int rc = lr_replays_open(&t, LR_MIB(1));
        if (!rc)
            rc = lr_replay_write(t, doc, &o, &out);
        done = lr_fault_seen() < n;
        lr_fault_arm(0);
        assert_true(rc == 0 || rc == LR_ENOMEM);
        lr_buf_free(&out);
        if (t)
            compare(t, doc, &o);
        lr_replays_close(t);
    }
    lr_doc_unref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_is_what_the_encoder_writes),
        cmocka_unit_test(a_small_table_forgets_and_stays_right),
        cmocka_unit_test(a_document_made_again_is_another),
        cmocka_unit_test(the_second_replay_is_a_copy),
        cmocka_unit_test(no_memory_is_an_error_or_no_stencil),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
