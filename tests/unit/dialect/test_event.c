/* SPDX-License-Identifier: Apache-2.0
 * unit/dialect/test_event.c - event logs: their bytes, facts, stored form, and the laws that tie
 * the stored form to what every dialect writes. Run with `write FILE` it makes the golden log.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codec.h"

#define ROUNDS 300

static void put(struct lr_buf *log, struct lr_event ev)
{
    assert_int_equal(lr_event_append(log, &ev), 0);
}
#define EV(...) ((struct lr_event){__VA_ARGS__})

/* ---- bytes ---------------------------------------------------------------------------------- */

/* One record of every type; docs/formats/events.md walks through the beginning. */
static void golden_log(struct lr_buf *log)
{
    put(log, EV(.type = LR_EV_START, .a = LR_STR("chatcmpl-1"), .b = LR_STR("m")));
    put(log, EV(.type = LR_EV_EXTRA, .sub = LR_SCOPE_TOP, .dialect = LR_DIALECT_CHAT,
                .a = LR_STR("service_tier"), .b = LR_STR("\"default\"")));
    put(log, EV(.type = LR_EV_LOGPROBS, .a = LR_STR("[{\"token\":\"Hi\",\"logprob\":-0.5}]")));
    put(log, EV(.type = LR_EV_PART, .sub = LR_PART_REASONING));
    put(log, EV(.type = LR_EV_DELTA, .a = LR_STR("hm")));
    put(log, EV(.type = LR_EV_SIGN, .a = LR_STR("c2ln")));
    put(log, EV(.type = LR_EV_PART_END));
    put(log, EV(.type = LR_EV_PART, .sub = LR_PART_TOOL_CALL, .part = 1, .a = LR_STR("call_1"),
                .b = LR_STR("f")));
    put(log, EV(.type = LR_EV_DELTA, .part = 1, .a = LR_STR("{}")));
    put(log, EV(.type = LR_EV_PART_END, .part = 1));
    put(log, EV(.type = LR_EV_FINISH, .sub = LR_FINISH_TOOL));
    put(log, EV(.type = LR_EV_PART, .sub = LR_PART_TEXT, .choice = 300));
    put(log, EV(.type = LR_EV_PART_END, .choice = 300));
    put(log, EV(.type = LR_EV_FINISH, .sub = LR_FINISH_STOP_SEQUENCE, .choice = 300,
                .a = LR_STR("END")));
    put(log, EV(.type = LR_EV_VECTOR, .choice = 2, .a = LR_STR("[0.5,-1]")));
    put(log, EV(.type = LR_EV_USAGE, .usage = {.input = 1000,
                                               .output = 7,
                                               .cached_input = 128,
                                               .written_input = 1,
                                               .reasoning = 3,
                                               .known = true}));
    put(log, EV(.type = LR_EV_END));
    put(log,
        EV(.type = LR_EV_ERROR, .status = 502, .a = LR_STR("overloaded"), .b = LR_STR("Later.")));
    put(log, EV(.type = LR_EV_BYTES, .a = LR_STR("\x00\xff raw")));
}

static void the_bytes_are_those_of_the_golden_file(void **state)
{
    (void)state;
    struct lr_buf log, want;
    lr_buf_init(&log, LR_MIB(1));
    lr_buf_init(&want, LR_MIB(1));
    golden_log(&log);
    assert_int_equal(lr_io_read_file(LR_SOURCE_DIR "/tests/golden/events-v1.bin", &want), 0);
    assert_true(lr_str_eq(lr_buf_str(&log), lr_buf_str(&want)));
    lr_buf_free(&log);
    lr_buf_free(&want);
}

static void reading_and_appending_gives_the_same_bytes(void **state)
{
    (void)state;
    struct lr_buf log, again;
    lr_buf_init(&log, LR_MIB(1));
    lr_buf_init(&again, LR_MIB(1));
    golden_log(&log);
    struct lr_str rest = lr_buf_str(&log);
    struct lr_event ev;
    int n = 0, rc;
    while ((rc = lr_event_next(&rest, &ev)) == 1) {
        put(&again, ev);
        n++;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(n, 19);
    assert_true(lr_str_eq(lr_buf_str(&log), lr_buf_str(&again)));
    lr_buf_free(&log);
    lr_buf_free(&again);
}

static void a_cut_record_is_corrupt_and_leaves_the_log_alone(void **state)
{
    (void)state;
    struct lr_buf log;
    lr_buf_init(&log, LR_MIB(1));
    golden_log(&log);
    for (size_t n = 0; n < log.len; n++) {
        char *exact = lr_alloc(n);
        assert_non_null(exact);
        memcpy(exact, log.p, n);
        struct lr_str rest = lr_str(exact, n);
        struct lr_event ev;
        int rc;
        do {
            struct lr_str before = rest;
            rc = lr_event_next(&rest, &ev);
            if (rc <= 0)
                assert_true(before.n == rest.n);
        } while (rc == 1);
        assert_true(rc == LR_ECORRUPT || (rc == 0 && rest.n == 0));
        lr_free(exact);
    }
    lr_buf_free(&log);
}

static void other_spellings_and_versions_are_corrupt(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {"\x2c\x00\x80\x00\x00\x00\x00", 7},     /* choice not in shortest form */
        {"\x4c\x00\x00\x00\x00\x00", 6},         /* version 2 */
        {"\x20\x00\x00\x00\x00\x00", 6},         /* type 0 */
        {"\x2e\x00\x00\x00\x00\x00", 6},         /* type 14 */
        {"\x2c\x60\x00\x00\x00\x00", 6},         /* dialect 6 */
        {"\x22\x0a\x00\x00\x00\x00", 6},         /* part type 10 */
        {"\x2c\x00\x80\x80\x04\x00\x00\x00", 8}, /* choice 65536 */
        {"\x2c\x00\x00\x00\x01\x00", 6},         /* text beyond the end */
        {"\x2c\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 14},     /* length 2^64 - 1 */
        {"\x2c\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00", 15}, /* beyond 64 bits */
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        struct lr_str log = lr_str(rows[i].bytes, rows[i].n);
        struct lr_event ev;
        assert_int_equal(lr_event_next(&log, &ev), LR_ECORRUPT);
    }
}

static void a_full_buffer_keeps_whole_records(void **state)
{
    (void)state;
    struct lr_buf log;
    lr_buf_init(&log, 20);
    put(&log, EV(.type = LR_EV_DELTA, .a = LR_STR("12345")));
    size_t have = log.len;
    struct lr_event big = EV(.type = LR_EV_DELTA, .a = LR_STR("1234567890"));
    assert_int_equal(lr_event_append(&log, &big), LR_EOVER);
    assert_int_equal(log.len, have);
    lr_buf_free(&log);
}

/* ---- facts ---------------------------------------------------------------------------------- */

static int facts_of(struct lr_answer_facts *f, const struct lr_event *ev, size_t n)
{
    struct lr_buf log;
    lr_buf_init(&log, LR_MIB(1));
    for (size_t i = 0; i < n; i++)
        put(&log, ev[i]);
    int rc = lr_answer_facts(lr_buf_str(&log), f);
    f->model = (struct lr_str){0}; /* a view into what is freed here */
    lr_buf_free(&log);
    return rc;
}
#define FACTS(f, ...)                                                                              \
    facts_of(f, (struct lr_event[]){__VA_ARGS__}, LR_COUNT(((struct lr_event[]){__VA_ARGS__})))
#define START       EV(.type = LR_EV_START, .b = LR_STR("m"))
#define FINISH(k)   EV(.type = LR_EV_FINISH, .sub = (k))
#define END         EV(.type = LR_EV_END)
#define TEXT(p)     EV(.type = LR_EV_PART, .sub = LR_PART_TEXT, .part = (p))
#define PART_END(p) EV(.type = LR_EV_PART_END, .part = (p))
#define EXTRA(name, value)                                                                         \
    EV(.type = LR_EV_EXTRA, .sub = LR_SCOPE_TOP, .dialect = LR_DIALECT_CHAT, .a = LR_STR(name),    \
       .b = LR_STR(value))

static void facts_say_what_may_be_stored(void **state)
{
    (void)state;
    struct lr_answer_facts f;
    assert_int_equal(FACTS(&f, START, TEXT(0), PART_END(0), FINISH(LR_FINISH_STOP), END), 0);
    assert_true(f.complete && f.storable && !f.lossy && !f.cut && f.choices == 1);
    assert_int_equal(FACTS(&f, START, TEXT(0), PART_END(0), FINISH(LR_FINISH_LENGTH), END), 0);
    assert_true(f.storable && f.cut);
    assert_int_equal(FACTS(&f, START, FINISH(LR_FINISH_FILTER), END), 0);
    assert_true(f.complete && !f.storable);
    assert_int_equal(FACTS(&f, START, FINISH(LR_FINISH_PAUSE), END), 0);
    assert_true(f.complete && !f.storable);
    assert_int_equal(FACTS(&f, START, TEXT(0), PART_END(0), END), 0);
    assert_false(f.complete);
    assert_int_equal(FACTS(&f, START, TEXT(0)), 0);
    assert_false(f.complete);
    assert_int_equal(FACTS(&f, START, FINISH(LR_FINISH_STOP), EV(.type = LR_EV_ERROR)), 0);
    assert_false(f.complete);
    assert_int_equal(FACTS(&f, START, END), 0);
    assert_false(f.complete);
    assert_int_equal(FACTS(&f, START, EV(.type = LR_EV_VECTOR, .a = LR_STR("[1]")), END), 0);
    assert_true(f.storable && f.choices == 0);
    assert_int_equal(FACTS(&f, EV(.type = LR_EV_BYTES, .a = LR_STR("x")), END), 0);
    assert_true(f.complete && !f.storable);
}

static void extras_that_say_something_bind_an_answer_to_its_dialect(void **state)
{
    (void)state;
    struct lr_answer_facts f;
    assert_int_equal(FACTS(&f, START, EXTRA("x", "1"), FINISH(LR_FINISH_STOP), END), 0);
    assert_true(f.lossy && f.dialect == LR_DIALECT_CHAT);
    assert_int_equal(FACTS(&f, START, EXTRA("x", "[ ]"), EXTRA("y", "null"),
                           EXTRA("service_tier", "\"a\""), EXTRA("system_fingerprint", "\"b\""),
                           FINISH(LR_FINISH_STOP), END),
                     0);
    assert_true(!f.lossy && f.dialect == LR_DIALECT_NONE);
}

static void what_is_no_answer_is_corrupt(void **state)
{
    (void)state;
    struct lr_answer_facts f;
    assert_int_equal(FACTS(&f, TEXT(0)), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, START), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, TEXT(1)), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, TEXT(0), TEXT(1)), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, TEXT(0), FINISH(LR_FINISH_STOP)), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, FINISH(LR_FINISH_STOP), FINISH(LR_FINISH_STOP)), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, FINISH(LR_FINISH_STOP), TEXT(0)), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, PART_END(0)), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, EV(.type = LR_EV_DELTA, .a = LR_STR("x"))), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, END, END), LR_ECORRUPT);
    assert_int_equal(FACTS(&f, START, EV(.type = LR_EV_BYTES)), LR_ECORRUPT);
}

/* ---- random answers ------------------------------------------------------------------------- */

static struct lr_str pick(struct lr_rng *r, const char *const *list, size_t n)
{
    return lr_strz(list[lr_rng_below(r, n)]);
}
#define PICK(r, ...)                                                                               \
    pick(r, (const char *const[]){__VA_ARGS__}, LR_COUNT(((const char *const[]){__VA_ARGS__})))

static struct lr_str random_text(struct lr_rng *r)
{
    return PICK(r, "a", "Hello ", "\xc3\xa9", "\xf0\x9f\x98\x80", "\n\n", "\"q\\\"",
                "{\"x\":", "data: [DONE]", "\t\x01", " ",
                "the quick brown fox jumps over the lazy dog");
}

static struct lr_str random_json(struct lr_rng *r)
{
    return PICK(r, "1", "null", "\"s\"", "\"t\"", "[]", "[1]", "[{\"a\":1},\"x\"]", "{}",
                "{\"k\":\"v\"}", "{\"k\":\"w\",\"l\":[1]}", "true", "-1.50e+3", "\"\"");
}

static void random_extra(struct lr_rng *r, struct lr_buf *log, enum lr_dialect_id d,
                         enum lr_extra_scope scope, uint16_t choice)
{
    if (lr_rng_below(r, 4))
        return;
    struct lr_str json = random_json(r);
    if (scope == LR_SCOPE_USAGE && lr_str_is(json, "null")) /* counts that are null are no extras */
        json = LR_STR("0");
    put(log, EV(.type = LR_EV_EXTRA, .sub = (uint8_t)scope, .dialect = d, .choice = choice,
                .a = PICK(r, "x_one", "x_two", "system_fingerprint"), .b = json));
}

static void random_part(struct lr_rng *r, struct lr_buf *log, enum lr_dialect_id d, uint16_t choice,
                        uint16_t part, enum lr_part_type type)
{
    bool call = type == LR_PART_TOOL_CALL;
    char id[32];
    snprintf(id, sizeof id, "call_%u_%u", choice, part);
    put(log,
        EV(.type = LR_EV_PART, .sub = (uint8_t)type, .choice = choice, .part = part,
           .a = call ? lr_strz(id) : (struct lr_str){0}, .b = call ? LR_STR("fn") : LR_STR("")));
    for (size_t i = 0, n = 1 + lr_rng_below(r, 4); i < n; i++) {
        if (type == LR_PART_TEXT && d == LR_DIALECT_CHAT && !lr_rng_below(r, 4))
            put(log, EV(.type = LR_EV_LOGPROBS, .choice = choice,
                        .a = PICK(r, "[{\"token\":\"a\"}]", "[1,[2]]")));
        if (d != LR_DIALECT_COMPLETION) /* which has no message */
            random_extra(r, log, d, LR_SCOPE_MESSAGE, choice);
        random_extra(r, log, d, LR_SCOPE_CHOICE, choice);
        put(log, EV(.type = LR_EV_DELTA, .choice = choice, .part = part, .a = random_text(r)));
    }
    put(log, EV(.type = LR_EV_PART_END, .choice = choice, .part = part));
}

/* One choice, in the order in which a Chat answer has its parts. */
static void random_choice(struct lr_rng *r, struct lr_buf *log, enum lr_dialect_id d,
                          uint16_t choice)
{
    uint16_t part = 0;
    bool completion = d == LR_DIALECT_COMPLETION;
    if (!completion && lr_rng_below(r, 3) == 0)
        random_part(r, log, d, choice, part++, LR_PART_REASONING);
    if (completion || lr_rng_below(r, 4))
        random_part(r, log, d, choice, part++, LR_PART_TEXT);
    if (!completion && lr_rng_below(r, 5) == 0)
        random_part(r, log, d, choice, part++, LR_PART_REFUSAL);
    for (size_t n = completion ? 0 : lr_rng_below(r, 3); n; n--)
        random_part(r, log, d, choice, part++, LR_PART_TOOL_CALL);
    random_extra(r, log, d, LR_SCOPE_CHOICE, choice);
    static const enum lr_finish kinds[] = {LR_FINISH_STOP, LR_FINISH_LENGTH, LR_FINISH_TOOL,
                                           LR_FINISH_STOP_SEQUENCE};
    enum lr_finish k = kinds[lr_rng_below(r, LR_COUNT(kinds))];
    put(log, EV(.type = LR_EV_FINISH, .sub = (uint8_t)k, .choice = choice,
                .a = k == LR_FINISH_STOP_SEQUENCE ? LR_STR("###") : LR_STR("")));
}

/* A valid answer; its choices arrive interleaved. */
static void random_answer(struct lr_rng *r, enum lr_dialect_id d, size_t choices,
                          struct lr_buf *log)
{
    struct lr_buf each[3];
    struct lr_str rest[3];
    put(log, EV(.type = LR_EV_START, .a = LR_STR("id-1"), .b = LR_STR("model")));
    random_extra(r, log, d, LR_SCOPE_TOP, 0);
    for (size_t i = 0; i < choices; i++) {
        lr_buf_init(&each[i], LR_MIB(1));
        random_choice(r, &each[i], d, (uint16_t)i);
        rest[i] = lr_buf_str(&each[i]);
    }
    for (size_t left = choices; left;) {
        size_t i = lr_rng_below(r, choices);
        struct lr_event ev;
        if (!rest[i].n || lr_event_next(&rest[i], &ev) != 1)
            continue;
        put(log, ev);
        left -= rest[i].n == 0;
        random_extra(r, log, d, LR_SCOPE_TOP, 0);
        if (!lr_rng_below(r, 20))
            put(log,
                EV(.type = LR_EV_USAGE, .usage = {.input = lr_rng_below(r, 9), .known = true}));
    }
    for (size_t i = 0; i < choices; i++)
        lr_buf_free(&each[i]);
    put(log, EV(.type = LR_EV_USAGE, .usage = {.input = 10,
                                               .output = 1 + lr_rng_below(r, 300),
                                               .cached_input = lr_rng_below(r, 3),
                                               .known = true}));
    random_extra(r, log, d, LR_SCOPE_USAGE, 0);
    put(log, EV(.type = LR_EV_END));
}

static void expect_equal(uint64_t seed, const char *what, struct lr_str want, struct lr_str have)
{
    if (lr_str_eq(want, have))
        return;
    struct lr_buf a, b;
    lr_buf_init(&a, LR_MIB(4));
    lr_buf_init(&b, LR_MIB(4));
    bool log = want.n && want.p[0] == 0x21; /* START of version 1: show it as text */
    if (log) {
        codec_dump(want, &a);
        codec_dump(have, &b);
    }
    fprintf(stderr, "%s, seed %llu\n--- want\n%.*s\n--- have\n%.*s\n", what,
            (unsigned long long)seed, (int)(log ? a.len : want.n), log ? a.p : want.p,
            (int)(log ? b.len : have.n), log ? b.p : have.p);
    lr_buf_free(&a);
    lr_buf_free(&b);
    fail();
}

static size_t choices_of(struct lr_rng *r, enum lr_dialect_id d)
{
    return d == LR_DIALECT_CHAT || d == LR_DIALECT_COMPLETION ? 1 + lr_rng_below(r, 3) : 1;
}

static void compact_changes_no_fact_and_is_its_own_fixed_point(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct lr_rng r;
        struct lr_buf log, once, twice;
        struct lr_answer_facts f, g;
        lr_rng_seed(&r, seed);
        lr_buf_init(&log, LR_MIB(4));
        lr_buf_init(&once, LR_MIB(4));
        lr_buf_init(&twice, LR_MIB(4));
        random_answer(&r, LR_DIALECT_CHAT, 1 + lr_rng_below(&r, 3), &log);
        assert_int_equal(lr_answer_facts(lr_buf_str(&log), &f), 0);
        assert_int_equal(lr_answer_compact(lr_buf_str(&log), &once), 0);
        assert_true(lr_answer_is_compact(lr_buf_str(&once)));
        assert_int_equal(lr_answer_compact(lr_buf_str(&once), &twice), 0);
        expect_equal(seed, "compact twice", lr_buf_str(&once), lr_buf_str(&twice));
        assert_int_equal(lr_answer_facts(lr_buf_str(&once), &g), 0);
        assert_true(f.complete && g.complete && f.storable == g.storable && f.cut == g.cut);
        assert_true(f.choices == g.choices && lr_str_eq(f.model, g.model));
        assert_memory_equal(&f.usage, &g.usage, offsetof(struct lr_usage, known));
        lr_buf_free(&log);
        lr_buf_free(&once);
        lr_buf_free(&twice);
    }
}

/* A twin of compact for texts: what each part says, gathered the obvious way. */
static void gather(struct lr_str log, uint16_t choice, uint16_t part, struct lr_buf *out)
{
    struct lr_event ev;
    while (lr_event_next(&log, &ev) == 1)
        if (ev.type == LR_EV_DELTA && ev.choice == choice && ev.part == part)
            lr_buf_adds(out, ev.a);
}

static void compact_keeps_every_text(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct lr_rng r;
        struct lr_buf log, compact, want;
        lr_rng_seed(&r, seed + 1000);
        lr_buf_init(&log, LR_MIB(4));
        lr_buf_init(&compact, LR_MIB(4));
        lr_buf_init(&want, LR_MIB(4));
        random_answer(&r, LR_DIALECT_CHAT, 3, &log);
        assert_int_equal(lr_answer_compact(lr_buf_str(&log), &compact), 0);
        struct lr_str rest = lr_buf_str(&compact);
        struct lr_event ev;
        while (lr_event_next(&rest, &ev) == 1) {
            if (ev.type != LR_EV_DELTA)
                continue;
            lr_buf_reset(&want);
            gather(lr_buf_str(&log), ev.choice, ev.part, &want);
            expect_equal(seed, "text", lr_buf_str(&want), ev.a);
        }
        lr_buf_free(&log);
        lr_buf_free(&compact);
        lr_buf_free(&want);
    }
}

static void every_dialect_writes_one_body_for_a_log_and_its_stored_form(void **state)
{
    (void)state;
    static const enum lr_dialect_id all[] = {LR_DIALECT_CHAT, LR_DIALECT_COMPLETION,
                                             LR_DIALECT_MESSAGES, LR_DIALECT_RESPONSES};
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct lr_rng r;
        struct lr_buf log, compact, a, b;
        lr_rng_seed(&r, seed + 2000);
        lr_buf_init(&log, LR_MIB(4));
        lr_buf_init(&compact, LR_MIB(4));
        lr_buf_init(&a, LR_MIB(4));
        lr_buf_init(&b, LR_MIB(4));
        enum lr_dialect_id d = all[seed % LR_COUNT(all)];
        random_answer(&r, d, choices_of(&r, d), &log);
        assert_int_equal(lr_answer_compact(lr_buf_str(&log), &compact), 0);
        for (size_t i = 0; i < LR_COUNT(all); i++) {
            struct lr_encoder_opts o = codec_opts(all[i], false);
            o.choices_max = all[i] == LR_DIALECT_CHAT || all[i] == LR_DIALECT_COMPLETION ? 0 : 1;
            lr_buf_reset(&a);
            lr_buf_reset(&b);
            assert_int_equal(codec_encode(&o, lr_buf_str(&log), &a), 0);
            assert_int_equal(codec_encode(&o, lr_buf_str(&compact), &b), 0);
            expect_equal(seed, lr_dialect_name(all[i]), lr_buf_str(&a), lr_buf_str(&b));
        }
        lr_buf_free(&log);
        lr_buf_free(&compact);
        lr_buf_free(&a);
        lr_buf_free(&b);
    }
}

static void round_trip(uint64_t seed, enum lr_dialect_id d, bool stream, struct lr_str log,
                       struct lr_str compact)
{
    struct lr_buf bytes, again, have;
    lr_buf_init(&bytes, LR_MIB(4));
    lr_buf_init(&again, LR_MIB(4));
    lr_buf_init(&have, LR_MIB(4));
    struct lr_encoder_opts o = codec_opts(d, stream);
    struct lr_err err = {0};
    assert_int_equal(codec_encode(&o, log, &bytes), 0);
    int rc = codec_decode(d, stream, lr_buf_str(&bytes), 7, &again, &err);
    if (rc)
        print_error("seed %llu: %s\n%.*s\n", (unsigned long long)seed, err.msg, (int)bytes.len,
                    bytes.p);
    assert_int_equal(rc, 0);
    assert_int_equal(lr_answer_compact(lr_buf_str(&again), &have), 0);
    expect_equal(seed, stream ? "stream" : "whole", compact, lr_buf_str(&have));
    lr_buf_free(&bytes);
    lr_buf_free(&again);
    lr_buf_free(&have);
}

static void what_is_written_reads_back_as_the_same_answer(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        struct lr_rng r;
        struct lr_buf log, compact;
        lr_rng_seed(&r, seed + 3000);
        lr_buf_init(&log, LR_MIB(4));
        lr_buf_init(&compact, LR_MIB(4));
        enum lr_dialect_id d = seed % 3 ? LR_DIALECT_CHAT : LR_DIALECT_COMPLETION;
        random_answer(&r, d, choices_of(&r, d), &log);
        assert_int_equal(lr_answer_compact(lr_buf_str(&log), &compact), 0);
        round_trip(seed, d, true, lr_buf_str(&log), lr_buf_str(&compact));
        round_trip(seed, d, true, lr_buf_str(&compact), lr_buf_str(&compact));
        round_trip(seed, d, false, lr_buf_str(&log), lr_buf_str(&compact));
        lr_buf_free(&log);
        lr_buf_free(&compact);
    }
}

static void compact_fails_cleanly_at_every_fault(void **state)
{
    (void)state;
    struct lr_rng r;
    struct lr_buf log, out;
    lr_rng_seed(&r, 7);
    lr_buf_init(&log, LR_MIB(4));
    random_answer(&r, LR_DIALECT_CHAT, 3, &log);
    for (uint64_t n = 1;; n++) {
        lr_buf_init(&out, LR_MIB(4));
        lr_fault_arm(n);
        int rc = lr_answer_compact(lr_buf_str(&log), &out);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        if (rc)
            assert_int_equal(out.len, 0);
        lr_buf_free(&out);
        assert_int_equal(rc != 0, hit);
        if (!hit)
            break;
    }
    lr_buf_free(&log);
}

static void merging_follows_the_rule_of_deltas(void **state)
{
    (void)state;
    static const struct {
        const char *pieces[4], *want;
    } rows[] = {
        {{"1", "2"}, "2"},
        {{"\"a\"", "\"b\""}, "\"ab\""},
        {{"\"a\"", "\"a\""}, "\"a\""},
        {{"[1]", "[]", "[2,3]"}, "[1,2,3]"},
        {{"{\"b\":\"x\"}", "null", "{\"a\":1,\"b\":\"y\"}"}, "{\"b\":\"xy\",\"a\":1}"},
        {{"{\"a\":{\"b\":[1]}}", "{\"a\":{\"b\":[2],\"c\":null}}"},
         "{\"a\":{\"b\":[1,2],\"c\":null}}"},
        {{"\"a\"", "1"}, "1"},
        {{"null", "null"}, "null"},
    };
    for (size_t i = 0; i < LR_COUNT(rows); i++) {
        struct lr_merge m;
        struct lr_buf out;
        lr_merge_open(&m, 1024);
        lr_buf_init(&out, 1024);
        for (size_t k = 0; k < 4 && rows[i].pieces[k]; k++)
            assert_int_equal(lr_merge_add(&m, lr_strz(rows[i].pieces[k])), 0);
        assert_int_equal(lr_merge_write(&m, &out), 0);
        expect_equal(i, "merge", lr_strz(rows[i].want), lr_buf_str(&out));
        lr_merge_close(&m);
        lr_buf_free(&out);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "write") == 0) {
        struct lr_buf log;
        lr_buf_init(&log, LR_MIB(1));
        golden_log(&log);
        int rc = lr_io_write_file(argv[2], lr_buf_str(&log), 0644);
        lr_buf_free(&log);
        return rc != 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bytes_are_those_of_the_golden_file),
        cmocka_unit_test(reading_and_appending_gives_the_same_bytes),
        cmocka_unit_test(a_cut_record_is_corrupt_and_leaves_the_log_alone),
        cmocka_unit_test(other_spellings_and_versions_are_corrupt),
        cmocka_unit_test(a_full_buffer_keeps_whole_records),
        cmocka_unit_test(facts_say_what_may_be_stored),
        cmocka_unit_test(extras_that_say_something_bind_an_answer_to_its_dialect),
        cmocka_unit_test(what_is_no_answer_is_corrupt),
        cmocka_unit_test(compact_changes_no_fact_and_is_its_own_fixed_point),
        cmocka_unit_test(compact_keeps_every_text),
        cmocka_unit_test(every_dialect_writes_one_body_for_a_log_and_its_stored_form),
        cmocka_unit_test(what_is_written_reads_back_as_the_same_answer),
        cmocka_unit_test(compact_fails_cleanly_at_every_fault),
        cmocka_unit_test(merging_follows_the_rule_of_deltas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
