/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/match/test_facts.c - the gates, pair by pair; and laws for any text.
 */
#include "match/match_int.h"
#include "match/lexicon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define KEY 0x5eedull

static const char *gate(const char *a, const char *b)
{
    static struct lr_fact ra[LR_FACTS_MAX], rb[LR_FACTS_MAX];
    struct lr_facts fa, fb;
    assert_int_equal(lr_facts_read(lr_strz(a), KEY, ra, &fa), 0);
    assert_int_equal(lr_facts_read(lr_strz(b), KEY, rb, &fb), 0);
    const char *one = lr_gate(&fa, &fb), *other = lr_gate(&fb, &fa);
    assert_true(one == other); /* symmetric, and static text */
    return one;
}

struct row {
    const char *a, *b, *gate; /* NULL: passes */
};

static void check(const struct row *rows, size_t n)
{
    size_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        const char *got = gate(rows[i].a, rows[i].b);
        if ((got && rows[i].gate && !strcmp(got, rows[i].gate)) || (!got && !rows[i].gate))
            continue;
        bad++;
        print_error("\"%s\" / \"%s\": %s, expected %s\n", rows[i].a, rows[i].b,
                    got ? got : "passes", rows[i].gate ? rows[i].gate : "passes");
    }
    assert_int_equal(bad, 0);
}
#define CHECK(rows) check(rows, LR_COUNT(rows))

static void numbers_are_compared_as_values(void **s)
{
    (void)s;
    static const struct row rows[] = {
        {"What is 2 plus 2?", "What is 2 plus 3?", "numbers"},
        {"What is two plus 2?", "what is 2 plus two", NULL},
        {"List 10 ideas", "list ten ideas", NULL},
        {"List 10 ideas", "list 12 ideas", "numbers"},
        {"a bill of 1,000 things", "a bill of 1000 things", NULL},
        {"a bill of 1,000 things", "a bill of 1.5 things", "numbers"},
        {"the value 3.50", "the value 3.5", NULL},
        {"the value 007", "the value 7", NULL},
        {"twenty five people", "25 people", NULL},
        {"two hundred people", "200 people", NULL},
        {"two hundred and five", "two hundred", "numbers"},
        {"3 million users", "3000000 users", NULL},
        {"5k users", "5000 users", NULL},
        {"python 3.11.2", "python 3.11.3", "numbers"},
        {"meet at 10:30", "meet at 10:45", "numbers"},
        {"the 3rd law", "the third law", NULL},
        {"the 3rd law", "the 2nd law", "numbers"},
        {"Is it ok?", "Is it ok with 5?", "numbers"},
        {"iPhone 6 price in total", "iPhone6 price in total", NULL},
        {"from -5 on", "from 5 on", "numbers"},
        {"on a scale of 1-10", "on a scale of 1 - 10", NULL},
        {"the year 2,019", "the year 2019", NULL},
    };
    CHECK(rows);
}

static void units_and_dates(void **s)
{
    (void)s;
    static const struct row rows[] = {
        {"run 5 km fast", "run 5 kilometers fast", NULL},
        {"run 5km fast", "run 5 km fast", NULL},
        {"run 5 km fast", "run 5 miles fast", "units"},
        {"is $50 enough", "is 50 dollars enough", NULL},
        {"is $50 enough", "is 50 euros enough", "units"},
        {"50% off", "50 percent off", NULL},
        {"50% off", "50 off", "units"},
        {"wait 3 days", "wait 3 weeks", "units"},
        {"how many days in it", "how long is it in days", NULL},
        {"events of March 12, 2024", "events of 2024-03-12", NULL},
        {"events of March 12, 2024", "events of 12th March 2024", NULL},
        {"events of March 12, 2024", "events of April 12, 2024", "dates"},
        {"events of 3/4/2024", "events of 4/3/2024", "dates"},
        {"shops open Sunday", "shops open Monday", "dates"},
        {"may I march along", "i may march along", NULL},
        {"weather in May usually", "weather in June usually", "dates"},
    };
    CHECK(rows);
}

static void what_turns_a_question_round(void **s)
{
    (void)s;
    static const struct row rows[] = {
        {"How do I enable 2FA?", "How do I disable 2FA?", "antonyms"},
        {"How do I enable 2FA?", "How can I turn on 2FA?", NULL},
        {"How do I enable 2FA?", "How can I turn off 2FA?", "antonyms"},
        {"how do I turn it off", "how do I turn it on", "antonyms"},
        {"how do I log in", "how do I log out", "antonyms"},
        {"Enabling it with nginx", "disabled it with nginx", "antonyms"},
        {"stopping a service", "starting a service", "antonyms"},
        {"can I eat it", "can't I eat it", "negation"},
        {"why is it good", "why is it not good", "negation"},
        {"Why isn't it good", "why is it not good", NULL},
        {"why dont they go", "why don't they go", NULL},
        {"why can\xE2\x80\x99t they go", "why cannot they go", NULL},
        {"kann ich das essen", "kann ich das nicht essen", "negation"},
        {"with sugar", "without sugar", "negation"},
        {"what is my first name", "what is my first and last name", "antonyms"},
        {"advantages of it", "benefits of it", NULL},
        {"advantages of it", "drawbacks of it", "antonyms"},
        {"gifts for my husband", "gifts for my wife", "antonyms"},
    };
    CHECK(rows);
}

static void names_must_be_among_the_words(void **s)
{
    (void)s;
    static const struct row rows[] = {
        {"What is the capital of France?", "what is the capital of france", NULL},
        {"What is the capital of France?", "what is the capital of spain", "names"},
        {"What is the capital of France?", "What's the capital city of France", NULL},
        {"How old is Obama?", "What is the age of Obama?", NULL},
        {"How old is Obama?", "How old is Biden?", "names"},
        {"Paris hotels please", "London hotels please", "names"},
        {"Explain gravity", "Describe gravity", NULL},
        {"What Is The Best Way To Learn Physics Quickly",
         "what is the best way to learn physics quickly", NULL},
        {"Life in the U.S. today", "Life in the US today", NULL},
        {"use YouTube offline", "use youtube offline", NULL},
        {"use YouTube offline", "use Vimeo offline", "names"},
        {"What are Indians like", "What is an Indian like", NULL},
        {"what does \"affect\" mean", "what does affect mean", NULL},
        {"what does \"affect\" mean", "what does effect mean", "names"},
    };
    CHECK(rows);
}

static void code_and_quotes_are_exact(void **s)
{
    (void)s;
    static const struct row rows[] = {
        {"what does my_func do", "what does my_fun do", "code"},
        {"what does my_func do", "explain my_func please", NULL},
        {"what does np.array do", "what does np.zeros do", "code"},
        {"run ls -l now", "run ls -L now", "code"},
        {"run `make check` here", "run `make clean` here", "code"},
        {"run `make check` here", "here, please run `make check`", NULL},
        {"is Node.js fast", "is node.js fast", NULL},
        {"learn C++ basics", "learn C basics", "code"},
        {"learn C++ basics", "learn c++ basics", NULL},
        {"you and/or/not me", "you and or not me", NULL},
        {"open /etc/passwd", "open /etc/shadow", "code"},
        {"mail me@example.com", "mail you@example.com", "code"},
        {"who sang \"let it be\"", "who sang \"let it go\"", "quotes"},
        {"who sang \"Let It Be\"", "who sang \xE2\x80\x9Clet it  be\xE2\x80\x9D", NULL},
        {"who sang 'let it be'", "who sang \"let it be\"", NULL},
        {"rock 'n' roll isn't dead", "rock 'n' roll isn't dead", NULL},
    };
    CHECK(rows);
}

static void order_and_language(void **s)
{
    (void)s;
    static const struct row rows[] = {
        {"convert euros to dollars", "convert dollars to euros", "order"},
        {"get from Paris to London", "get from London to Paris", "order"},
        {"get from Paris to London", "get to London from Paris", NULL},
        {"is Java faster than Python", "is Python faster than Java", "order"},
        {"is java much better than python", "is python much better than java", "order"},
        {"eat before sport", "eat after sport", "antonyms"},
        {"\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82", "privet", "language"},
        {"what is the best of it", "was ist das beste und warum ist es das", "language"},
    };
    CHECK(rows);
}

static void time_makes_a_question_dated(void **s)
{
    (void)s;
    static struct lr_fact room[LR_FACTS_MAX];
    struct lr_facts f;
    assert_int_equal(lr_facts_read(LR_STR("What is the weather in Rome?"), KEY, room, &f), 0);
    assert_true(f.dated);
    assert_int_equal(lr_facts_read(LR_STR("Who is the current president?"), KEY, room, &f), 0);
    assert_true(f.dated);
    assert_int_equal(lr_facts_read(LR_STR("What is photosynthesis?"), KEY, room, &f), 0);
    assert_false(f.dated);
}

static void what_is_too_long_is_refused(void **s)
{
    (void)s;
    static char text[LR_FACTS_TEXT_MAX + 1];
    static struct lr_fact room[LR_FACTS_MAX];
    struct lr_facts f;
    memset(text, 'a', sizeof text);
    assert_int_equal(lr_facts_read(lr_str(text, sizeof text), KEY, room, &f), LR_EOVER);
    assert_int_equal(lr_facts_read(lr_str(text, sizeof text - 1), KEY, room, &f), 0);
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = i % 4 ? (char)('a' + (i * 7 + i / 26) % 26) : ' ';
    assert_int_equal(lr_facts_read(lr_str(text, sizeof text - 1), KEY, room, &f), LR_EOVER);
    assert_int_equal(lr_facts_read(LR_STR(""), KEY, room, &f), 0);
    assert_int_equal(f.n, 0);
}

static void any_text_passes_with_itself(void **s)
{
    (void)s;
    static struct lr_fact ra[LR_FACTS_MAX];
    static const char alphabet[] =
        "aAbz09.,'\"`-_ /$%:()\xE2\x80\x9C\xE2\x80\x9D\xC3\xA4\xFFnot to five km ";
    struct lr_rng rng;
    uint64_t seed = 4;
    lr_rng_seed(&rng, seed);
    for (int i = 0; i < 20000; i++) {
        char text[200];
        size_t n = (size_t)lr_rng_below(&rng, sizeof text);
        for (size_t k = 0; k < n; k++)
            text[k] = alphabet[lr_rng_below(&rng, sizeof alphabet - 1)];
        struct lr_facts f;
        int rc = lr_facts_read(lr_str(text, n), KEY, ra, &f);
        if (rc) {
            assert_int_equal(rc, LR_EOVER);
            continue;
        }
        const char *g = lr_gate(&f, &f);
        if (g && strcmp(g, "order")) /* "a to b, b to a" contradicts itself */
            fail_msg("seed %llu, text %d: refused by %s", (unsigned long long)seed, i, g);
    }
}

static void keys_separate_deployments(void **s)
{
    (void)s;
    static struct lr_fact ra[LR_FACTS_MAX], rb[LR_FACTS_MAX];
    struct lr_facts a, b;
    assert_int_equal(lr_facts_read(LR_STR("5 km to Rome"), 1, ra, &a), 0);
    assert_int_equal(lr_facts_read(LR_STR("5 km to Rome"), 2, rb, &b), 0);
    assert_non_null(lr_gate(&a, &b));
}

#define SORTED(t, word)                                                                            \
    for (size_t i = 1; i < LR_COUNT(t); i++)                                                       \
        if (strcmp(t[i - 1] word, t[i] word) >= 0)                                                 \
    fail_msg(#t ": %s is out of order", t[i] word)

static void tables_are_sorted(void **s)
{
    (void)s;
    SORTED(poles, .word);
    SORTED(units, .word);
    SORTED(near_units, .word);
    SORTED(numbers, .word);
    SORTED(scales, .word);
    SORTED(months, .word);
    SORTED(weekdays, .word);
    SORTED(tongues, .word);
    SORTED(negations, );
    SORTED(volatile_words, );
    SORTED(stops, );
    SORTED(starters, );
}

static void sketches_estimate_what_is_shared(void **s)
{
    (void)s;
    struct lr_sketch a, b, c, e;
    lr_sketch_read(LR_STR("How do I reset the password of my account on the site?"), KEY, &a);
    lr_sketch_read(LR_STR("how do i reset the password of my account on the site"), KEY, &b);
    lr_sketch_read(LR_STR("Photosynthesis in green algae"), KEY, &c);
    lr_sketch_read(LR_STR("  ?! "), KEY, &e);
    assert_true(lr_sketch_same(&a, &b) == 1.0f);
    assert_true(lr_sketch_same(&a, &c) < 0.1f);
    assert_true(e.empty && lr_sketch_same(&e, &e) == 0);
    lr_sketch_read(
        LR_STR("How do I reset the password of my account on the site? Or the mail address of it?"),
        KEY, &b);
    float part = lr_sketch_same(&a, &b);
    assert_true(part > 0.35f && part < 0.9f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_compared_as_values),
        cmocka_unit_test(units_and_dates),
        cmocka_unit_test(what_turns_a_question_round),
        cmocka_unit_test(names_must_be_among_the_words),
        cmocka_unit_test(code_and_quotes_are_exact),
        cmocka_unit_test(order_and_language),
        cmocka_unit_test(time_makes_a_question_dated),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(any_text_passes_with_itself),
        cmocka_unit_test(keys_separate_deployments),
        cmocka_unit_test(tables_are_sorted),
        cmocka_unit_test(sketches_estimate_what_is_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
