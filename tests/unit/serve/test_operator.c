/* SPDX-License-Identifier: Apache-2.0
 * unit/serve/test_operator.c - the laws of session.c and tally.c that need no socket.
 */
#include "serve/serve_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define KEY LR_STR("la-0123456789abcdef")

/* ---- session.c ---- */

static struct lr_sessions *open_sessions(void)
{
    struct lr_sessions *s = NULL;
    assert_int_equal(lr_sessions_open(&s), 0);
    return s;
}

static void wrong_keys_run_out_and_come_back(void **state)
{
    (void)state;
    struct lr_sessions *s = open_sessions();
    uint64_t now = 100 * LR_SEC;
    int denied = 0;
    for (int i = 0; i < 50; i++)
        denied += lr_sessions_key(s, LR_STR("la-wrong"), KEY, false, now) == LR_EDENIED;
    assert_int_equal(denied, 20);
    /* Used up: not even the right key is looked at; the other bucket is not touched. */
    assert_int_equal(lr_sessions_key(s, KEY, KEY, false, now), LR_EBUSY);
    assert_int_equal(lr_sessions_key(s, KEY, KEY, true, now), 0);
    now += LR_SEC;
    assert_int_equal(lr_sessions_key(s, KEY, KEY, false, now), 0);
    assert_int_equal(lr_sessions_key(s, LR_STR("x"), KEY, false, now), LR_EDENIED);
    assert_int_equal(lr_sessions_key(s, KEY, KEY, false, now), LR_EBUSY);
    /* A long rest gives the whole allowance back, and no more. */
    now += 1000 * LR_SEC;
    denied = 0;
    for (int i = 0; i < 50; i++)
        denied += lr_sessions_key(s, LR_STR(""), KEY, false, now) == LR_EDENIED;
    assert_int_equal(denied, 20);
    lr_sessions_close(s);
}

static void right_keys_cost_nothing(void **state)
{
    (void)state;
    struct lr_sessions *s = open_sessions();
    for (int i = 0; i < 1000; i++)
        assert_int_equal(lr_sessions_key(s, KEY, KEY, false, LR_SEC), 0);
    lr_sessions_close(s);
}

static void cookies_of_nobody_open_nothing(void **state)
{
    (void)state;
    static const char *const cookies[] = {
        "",
        "larder_session=",
        "larder_session=00",
        "larder_session=0000000000000000000000000000000000000000000000000000000000000000",
        "a=b; larder_session=zz00000000000000000000000000000000000000000000000000000000000000; c",
        ";;;===",
    };
    struct lr_sessions *s = open_sessions();
    for (size_t i = 0; i < LR_COUNT(cookies); i++)
        assert_false(lr_sessions_cookie(s, lr_strz(cookies[i]), LR_SEC));
    assert_false(lr_sessions_cookie(s, lr_str(NULL, 0), LR_SEC));
    lr_sessions_close(s);
}

static void verdicts_are_limited_by_tenant_and_minute(void **state)
{
    (void)state;
    struct lr_sessions *s = open_sessions();
    int ok = 0;
    for (int i = 0; i < 100; i++)
        ok += lr_sessions_feedback(s, 7, 60 * LR_SEC);
    assert_int_equal(ok, 60);
    assert_true(lr_sessions_feedback(s, 8, 60 * LR_SEC));
    assert_true(lr_sessions_feedback(s, 7, 121 * LR_SEC));
    lr_sessions_close(s);
}

/* ---- tally.c ---- */

static struct lr_record make_record(struct lr_rng *rng, uint64_t tenants)
{
    struct lr_record r = {.outcome = (uint8_t)lr_rng_below(rng, 6)};
    r.tenant = 1 + lr_rng_below(rng, tenants);
    (void)snprintf(r.tenant_name, sizeof r.tenant_name, "t%llu", (unsigned long long)r.tenant);
    (void)snprintf(r.reason, sizeof r.reason, "why-%llu:%llu", (unsigned long long)(r.tenant % 90),
                   (unsigned long long)lr_rng_below(rng, 9));
    r.usage.input = lr_rng_below(rng, 1000);
    r.usage.output = lr_rng_below(rng, 1000);
    r.ms_saved = lr_rng_below(rng, 1000);
    return r;
}

static void add_row(struct lr_tally_row *sum, const struct lr_tally_row *r)
{
    for (int i = 0; i < 6; i++)
        sum->n[i] += r->n[i];
    sum->tokens_in_saved += r->tokens_in_saved;
    sum->tokens_out_saved += r->tokens_out_saved;
    sum->ms_saved += r->ms_saved;
}

/* However many tenants and reasons pass by: the rows are bounded, and they add up to the total. */
static void rows_are_bounded_and_add_up(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct lr_rng rng;
        struct lr_tally *t;
        struct lr_tally_row rows[LR_TALLY_TENANTS + 1], total, sum = {.id = 0}, twin = {.id = 0};
        uint64_t tenants = seed % 2 ? 40 : 300, no_hits = 0, by_reason = 0;
        lr_rng_seed(&rng, seed);
        assert_int_equal(lr_tally_open(&t), 0);
        for (int i = 0; i < 3000; i++) {
            struct lr_record r = make_record(&rng, tenants);
            bool held = r.outcome == LR_OUT_HIT || r.outcome == LR_OUT_STALE;
            lr_tally_add(t, &r);
            twin.n[r.outcome]++;
            twin.tokens_in_saved += held ? r.usage.input : 0;
            twin.tokens_out_saved += held ? r.usage.output : 0;
            twin.ms_saved += r.ms_saved;
            no_hits += r.outcome != LR_OUT_HIT;
        }
        size_t n = lr_tally_tenants(t, rows);
        if (n != (tenants < LR_TALLY_TENANTS ? tenants : LR_TALLY_TENANTS + 1))
            fail_msg("seed %llu: %zu rows", (unsigned long long)seed, n);
        for (size_t i = 0; i < n; i++)
            add_row(&sum, &rows[i]);
        lr_tally_total(t, &total);
        assert_memory_equal(sum.n, twin.n, sizeof sum.n);
        assert_memory_equal(total.n, twin.n, sizeof sum.n);
        assert_int_equal(total.tokens_in_saved, twin.tokens_in_saved);
        assert_int_equal(sum.tokens_in_saved, twin.tokens_in_saved);
        assert_int_equal(sum.tokens_out_saved, twin.tokens_out_saved);
        assert_int_equal(sum.ms_saved, twin.ms_saved);
        n = lr_tally_reasons(t, rows);
        assert_true(n <= LR_TALLY_REASONS + 1);
        for (size_t i = 0; i < n; i++) {
            assert_null(strchr(rows[i].name, ':'));
            by_reason += rows[i].n[0];
        }
        assert_int_equal(by_reason, no_hits);
        lr_tally_close(t);
    }
}

static void names_are_found_by_id(void **state)
{
    (void)state;
    struct lr_tally *t;
    char name[64];
    assert_int_equal(lr_tally_open(&t), 0);
    struct lr_record r = {
        .tenant = 9, .tenant_name = "kitchen", .reason = "new", .outcome = LR_OUT_MISS};
    lr_tally_add(t, &r);
    lr_tally_name(t, 9, name);
    assert_string_equal(name, "kitchen");
    lr_tally_name(t, 10, name);
    assert_string_equal(name, "");
    lr_tally_close(t);
}

/* ---- memory ---- */

static void opening_fails_cleanly(void **state)
{
    (void)state;
    struct lr_sessions *s = NULL;
    struct lr_tally *t = NULL;
    assert_int_equal(lr_fault_arm(1), 0);
    assert_int_equal(lr_sessions_open(&s), LR_ENOMEM);
    assert_int_equal(lr_fault_arm(1), 0);
    assert_int_equal(lr_tally_open(&t), LR_ENOMEM);
    lr_fault_arm(0);
    assert_null(s);
    assert_null(t);
    lr_sessions_close(NULL);
    lr_tally_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_keys_run_out_and_come_back),
        cmocka_unit_test(right_keys_cost_nothing),
        cmocka_unit_test(cookies_of_nobody_open_nothing),
        cmocka_unit_test(verdicts_are_limited_by_tenant_and_minute),
        cmocka_unit_test(rows_are_bounded_and_add_up),
        cmocka_unit_test(names_are_found_by_id),
        cmocka_unit_test(opening_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
