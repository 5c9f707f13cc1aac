/* SPDX-License-Identifier: Apache-2.0
 * eval/test_kv.c - a whole evaluation on a random nano model: results are complete, continue where
 * they stopped, survive a torn line, and do not depend on how often one started; the reports are
 * well-formed.
 */
#include "eval_kit.h"

#include <stdlib.h>

static char dir[64];

static struct lr_eval_kv small(const struct kit *k)
{
    return (struct lr_eval_kv){
        .model = k->path,
        .policies = "random,streaming-llm,snapkv:window=8,pool=3,snapkv,oracle,f16,h2o+f16",
        .budgets = "25%,24",
        .tasks = "single,turns,perplexity,sliding,system",
        .context = 256,
        .samples = 2,
        .seed = 3,
        .threads = 1,
        .out = dir};
}

static void path_of(char out[128], const char *name)
{
    snprintf(out, 128, "%s/%s", dir, name);
}

static void forget(void)
{
    static const char *const names[] = {"results.jsonl", "report.txt", "report.html"};
    char path[128];
    for (size_t i = 0; i < LR_COUNT(names); i++) {
        path_of(path, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static struct lr_str slurp(const char *name)
{
    static char text[8][LR_MIB(1)];
    static unsigned turn;
    struct lr_buf b;
    char path[128];
    char *to = text[turn++ % 8];
    path_of(path, name);
    lr_buf_init(&b, sizeof text[0] - 1);
    assert_int_equal(lr_io_read_file(path, &b), 0);
    memcpy(to, b.p, b.len);
    to[b.len] = 0;
    struct lr_str s = {to, b.len};
    lr_buf_free(&b);
    return s;
}

static void write_results(struct lr_str s)
{
    char path[128];
    path_of(path, "results.jsonl");
    assert_int_equal(lr_io_write_file(path, s, 0644), 0);
}

static void run(const struct lr_eval_kv *k)
{
    struct lr_err err = {0};
    unsigned failed;
    if (lr_eval_kv(k, NULL, &failed, &err))
        fail_msg("%s (%s)", err.msg, err.where);
}

static size_t lines(struct lr_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

static int by_text(const void *a, const void *b)
{
    return lr_str_cmp(*(const struct lr_str *)a, *(const struct lr_str *)b);
}

/* The lines of results but for those that hold times, sorted. */
static size_t sorted(struct lr_str s, struct lr_str *out)
{
    size_t n = 0;
    for (struct lr_str rest = s; rest.p;) {
        struct lr_str line = lr_str_cut(&rest, '\n');
        if (line.n && !memmem(line.p, line.n, "\"system@", 8))
            out[n++] = line;
    }
    qsort(out, n, sizeof *out, by_text);
    return n;
}

static void assert_same_results(struct lr_str a, struct lr_str b)
{
    static struct lr_str x[2000], y[2000];
    size_t n = sorted(a, x);
    assert_int_equal(n, sorted(b, y));
    for (size_t i = 0; i < n; i++)
        assert_true(lr_str_eq(x[i], y[i]));
}

static void a_second_run_adds_nothing_and_a_cut_one_continues(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv o = small(k);
    run(&o);
    struct lr_str first = slurp("results.jsonl");
    assert_true(lines(first) > 60);
    run(&o);
    struct lr_str again = slurp("results.jsonl");
    assert_true(lr_str_eq(first, again));
    /* Killed anywhere: between lines, within a line, within the first. */
    static const double cuts[] = {0.0, 0.003, 0.31, 0.62, 0.999};
    for (size_t i = 0; i < LR_COUNT(cuts); i++) {
        write_results(lr_str(first.p, (size_t)(cuts[i] * (double)first.n)));
        run(&o);
        assert_same_results(first, slurp("results.jsonl"));
    }
    forget();
}

static void other_lists_share_a_directory(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv o = small(k);
    o.tasks = "single";
    o.policies = "streaming-llm";
    run(&o);
    size_t before = lines(slurp("results.jsonl"));
    o.policies = "streaming-llm,random";
    run(&o);
    size_t after = lines(slurp("results.jsonl"));
    assert_true(after > before);
    o.policies = "streaming-llm";
    run(&o);
    assert_int_equal(lines(slurp("results.jsonl")), after);
    o.seed++;
    run(&o);
    assert_true(lines(slurp("results.jsonl")) > after);
    forget();
}

static void foreign_or_broken_results_are_refused(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv o = small(k);
    struct lr_err err = {0};
    unsigned failed;
    o.tasks = "single";
    o.policies = "random";
    run(&o);
    struct lr_str good = slurp("results.jsonl");
    o.hold = true; /* another setting */
    assert_int_equal(lr_eval_kv(&o, NULL, &failed, &err), LR_EEXIST);
    o.hold = false;
    static char bad[LR_MIB(1)];
    const char *second = (const char *)memchr(good.p, '\n', good.n) + 1;
    size_t head = (size_t)(second - good.p);
    memcpy(bad, good.p, head);
    memcpy(bad + head, "{\"task\":\n", 9);
    memcpy(bad + head + 9, second, good.n - head);
    write_results(lr_str(bad, good.n + 9));
    err = (struct lr_err){0};
    assert_int_equal(lr_eval_kv(&o, NULL, &failed, &err), LR_ECORRUPT);
    assert_non_null(strstr(err.msg, "line 2"));
    forget();
}

/* Tags open and close in order, text holds no bare mark, nothing is fetched from anywhere. */
static void assert_well_formed(struct lr_str page)
{
    static const char *const alone[] = {"meta", "!doctype"};
    char stack[32][16];
    size_t depth = 0;
    for (size_t i = 0; i < page.n; i++) {
        if (page.p[i] == '&')
            assert_non_null(memchr(page.p + i, ';', 7));
        if (page.p[i] != '<')
            continue;
        char name[16] = "";
        size_t at = i + 1, n = 0;
        bool close = page.p[at] == '/';
        for (at += close; n < 15 && page.p[at] != '>' && page.p[at] != ' ' && page.p[at] != '/';
             at++)
            name[n++] = page.p[at];
        const char *end = memchr(page.p + i, '>', page.n - i);
        assert_non_null(end);
        bool empty = end[-1] == '/';
        for (size_t k = 0; k < LR_COUNT(alone); k++)
            empty |= strcmp(name, alone[k]) == 0;
        if (close) {
            assert_true(depth > 0);
            assert_string_equal(stack[--depth], name);
        } else if (!empty) {
            assert_true(depth < 32);
            memcpy(stack[depth++], name, sizeof name);
        }
        i = (size_t)(end - page.p);
    }
    assert_int_equal(depth, 0);
    assert_null(memmem(page.p, page.n, "<script", 7));
    assert_null(memmem(page.p, page.n, "src=", 4));
    assert_null(memmem(page.p, page.n, "href=", 5));
    assert_null(memmem(page.p, page.n, "nan", 3));
    assert_null(memmem(page.p, page.n, "inf\"", 4));
}

static void reports_are_complete_and_well_formed(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv o = small(k);
    o.modes = "agnostic";
    run(&o);
    struct lr_str page = slurp("report.html"), text = slurp("report.txt");
    assert_well_formed(page);
    static const char *const parts[] = {"controls",
                                        "accuracy, agnostic",
                                        "snapkv:window=8,pool=3",
                                        "perplexity",
                                        "decoded, budgets held",
                                        "seconds and bytes at 256",
                                        "h2o+f16",
                                        "* single: the full cache has"};
    for (size_t i = 0; i < LR_COUNT(parts); i++)
        if (!memmem(text.p, text.n, parts[i], strlen(parts[i])))
            fail_msg("no '%s' in the report", parts[i]);
    assert_null(memmem(text.p, text.n, "accuracy, aware", 15));
    assert_null(memmem(text.p, text.n, "shuffled  ", 10)); /* controls are in no table */
    assert_non_null(memmem(text.p, text.n, "pass  a budget of 100 %", 23));
    forget();
}

/* The values of random weights mean nothing, but some of them must hold. */
static void values_are_what_they_say(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv o = small(k);
    o.out = dir;
    run(&o);
    struct lr_arena a;
    lr_arena_init(&a, LR_MIB(4));
    double full_bytes = 0, full_rows = 0;
    size_t seen = 0;
    for (struct lr_str rest = slurp("results.jsonl"); rest.p;) {
        struct lr_str line = lr_str_cut(&rest, '\n'), task, policy, budget, mode;
        struct lr_json *v;
        double rows = 0, bytes = 0, kl = 0;
        if (!line.n)
            continue;
        lr_arena_reset(&a);
        assert_int_equal(lr_json_parse(&a, line, NULL, &v, NULL), 0);
        if (!lr_json_text(lr_json_get(v, "task"), &task))
            continue; /* the head */
        seen++;
        assert_true(lr_json_text(lr_json_get(v, "policy"), &policy));
        assert_true(lr_json_text(lr_json_get(v, "budget"), &budget));
        assert_true(lr_json_text(lr_json_get(v, "mode"), &mode));
        assert_true(lr_json_real(lr_json_get(v, "rows"), &rows));
        assert_true(lr_json_real(lr_json_get(v, "bytes"), &bytes));
        if (lr_str_is(policy, "full") && lr_str_is(task, "single") && lr_str_is(mode, "agnostic")) {
            full_rows = rows;
            full_bytes = bytes;
        }
        if (lr_str_is(budget, "24"))
            assert_true(rows <=
                        24 + (lr_str_is(task, "system@256") || lr_str_is(task, "system@128")));
        if (lr_str_is(budget, "24") && lr_str_is(task, "single"))
            assert_true(bytes < full_bytes / 3);
        if (lr_str_is(policy, "full") &&
            (lr_str_is(task, "perplexity") || lr_str_is(task, "sliding"))) {
            assert_true(lr_json_real(lr_json_get(v, "kl"), &kl) && kl == 0);
            assert_true(lr_json_real(lr_json_get(v, "top1"), &kl) && kl == 1);
        }
    }
    assert_true(seen > 60 && full_rows > 190 && full_rows < 256);
    lr_arena_free(&a);
    forget();
}

/* A model in memory is the same model: its results continue those of the file. */
static void bytes_in_memory_are_the_file(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv o = small(k);
    struct lr_buf b;
    char name[64];
    o.tasks = "single";
    o.policies = "random";
    run(&o);
    size_t n = lines(slurp("results.jsonl"));
    lr_buf_init(&b, LR_MIB(16));
    assert_int_equal(lr_io_read_file(k->path, &b), 0);
    char *raw = lr_alloc(b.len + 64), *at = raw + (64 - (uintptr_t)raw % 64) % 64;
    assert_non_null(raw);
    memcpy(at, b.p, b.len);
    snprintf(name, sizeof name, "%s", strrchr(k->path, '/') + 1);
    o.model = name;
    o.bytes = lr_str(at, b.len);
    run(&o);
    assert_int_equal(lines(slurp("results.jsonl")), n);
    lr_free(raw);
    lr_buf_free(&b);
    forget();
}

/* Questions as prompts, replies decoded, budgets held throughout: every policy goes through with it. */
static void budgets_can_be_held_while_answering(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv o = small(k);
    struct lr_err err = {0};
    struct lr_buf report;
    unsigned failed;
    o.policies = "random,streaming-llm,snapkv,tova,h2o,h2o+f16,oracle";
    o.tasks = "turns";
    o.samples = 1;
    o.hold = true;
    o.out = NULL;
    lr_buf_init(&report, LR_MIB(1));
    if (lr_eval_kv(&o, &report, &failed, &err))
        fail_msg("%s (%s)", err.msg, err.where);
    assert_non_null(memmem(report.p, report.len, "budgets held while answering", 28));
    lr_buf_free(&report);
}

static void own_tasks_run_and_name_their_line(void **state)
{
    struct kit *k = *state;
    char path[128];
    struct lr_err err = {0};
    unsigned failed;
    snprintf(path, sizeof path, "%s.jsonl", k->path);
    struct lr_eval_kv o = small(k);
    o.tasks = path;
    o.policies = "streaming-llm,oracle";
    o.out = NULL;
    assert_int_equal(
        lr_io_write_file(path,
                         LR_STR("{\"context\":\"one two three\",\"question\":\" four\","
                                "\"answers\":[\"x\"]}\n\n{\"context\":\"b\"}\n"),
                         0644),
        0);
    assert_int_equal(lr_eval_kv(&o, NULL, &failed, &err), LR_EINVAL);
    assert_string_equal(err.where, "line 3");
    assert_int_equal(
        lr_io_write_file(path,
                         LR_STR("{\"context\":\"one two three\",\"question\":\" four\","
                                "\"answers\":\"x\"}\n"),
                         0644),
        0);
    struct lr_buf report;
    lr_buf_init(&report, LR_MIB(1));
    err = (struct lr_err){0};
    assert_int_equal(lr_eval_kv(&o, &report, &failed, &err), 0);
    assert_non_null(memmem(report.p, report.len, "own", 3));
    lr_buf_free(&report);
    unlink(path);
}

static void what_cannot_be_is_refused_before_any_work(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv base = small(k);
    base.out = NULL;
    struct lr_eval_kv bad[] = {base, base, base, base, base, base, base, base, base, base};
    bad[0].policies = "nothing";
    bad[1].budgets = "0";
    bad[2].budgets = "none";
    bad[3].tasks = "everything";
    bad[4].modes = "psychic";
    bad[5].context = 100000;
    bad[6].text = "/nonexistent";
    bad[7].policies = "oracle+f16";
    bad[8].model = "/nonexistent";
    bad[9].policies = "q8"; /* heads of 16 elements */
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_err err = {0};
        unsigned failed;
        if (lr_eval_kv(&bad[i], NULL, &failed, &err) >= 0 || !err.msg[0])
            fail_msg("number %zu", i);
    }
}

static void memory_that_runs_out_is_a_result(void **state)
{
    struct kit *k = *state;
    struct lr_eval_kv o = small(k);
    o.tasks = "single,perplexity";
    o.policies = "snapkv,f16";
    o.budgets = "24";
    o.samples = 1;
    o.context = 160;
    o.out = NULL;
    for (uint64_t n = 1;;
         n += n / 5 + 1) { /* some thousand places: those in front all, then ever fewer */
        struct lr_err err = {0};
        unsigned failed;
        lr_fault_arm(n);
        int rc = lr_eval_kv(&o, NULL, &failed, &err);
        bool hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        if (!hit) {
            assert_int_equal(rc, 0);
            return;
        }
        if (rc == 0)
            continue; /* a place that could do without */
        assert_true(rc < 0 && err.msg[0]);
    }
}

static int open_kit(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/larder-eval-%d", (int)getpid());
    return kit_setup(state);
}

static int close_kit(void **state)
{
    forget();
    return kit_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_run_adds_nothing_and_a_cut_one_continues),
        cmocka_unit_test(other_lists_share_a_directory),
        cmocka_unit_test(foreign_or_broken_results_are_refused),
        cmocka_unit_test(reports_are_complete_and_well_formed),
        cmocka_unit_test(values_are_what_they_say),
        cmocka_unit_test(bytes_in_memory_are_the_file),
        cmocka_unit_test(budgets_can_be_held_while_answering),
        cmocka_unit_test(own_tasks_run_and_name_their_line),
        cmocka_unit_test(what_cannot_be_is_refused_before_any_work),
        cmocka_unit_test(memory_that_runs_out_is_a_result),
    };
    return cmocka_run_group_tests(tests, open_kit, close_kit);
}
