/* SPDX-License-Identifier: Apache-2.0
 * api/test_measure.c - the commands that measure: model random, bench engine, calc, eval kv.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];

/* Runs larder with these words; standard output and error together in text; its exit status. */
__attribute__((format(printf, 2, 3))) static int larder(char text[1 << 16], const char *fmt, ...)
{
    char command[2048], words[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    snprintf(command, sizeof command, "'%s' %s 2>&1", getenv("LARDER"), words);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t n = fread(text, 1, (1 << 16) - 1, p);
    text[n] = 0;
    return WEXITSTATUS(pclose(p));
}

static double member(const char *json, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(json, key);
    assert_non_null(at);
    return atof(at + strlen(key));
}

static char text[1 << 16];

static void bench_engine_prints_five_members(void **state)
{
    (void)state;
    assert_int_equal(larder(text,
                            "bench engine --model %s/nano.gguf --prompt 40 --predict=8 --runs 1 "
                            "--threads 1 --json",
                            dir),
                     0);
    assert_true(member(text, "threads") == 1);
    assert_true(member(text, "context") == 48);
    assert_true(member(text, "prefill_tps") > 0);
    assert_true(member(text, "decode_tps") > 0);
    assert_non_null(strstr(text, "\"model\":\""));
    assert_int_equal(
        larder(text, "bench engine --model %s/nano.gguf --prompt 4 --predict 0 --runs 1", dir), 0);
    assert_non_null(strstr(text, "tokens/s"));
}

static void calc_follows_the_formulas(void **state)
{
    (void)state;
    assert_int_equal(larder(text,
                            "calc --like llama-7b --type F16 --flops 100T --bw 1T --memory 80G "
                            "--link 10G --disk 2G --context 1024 --json"),
                     0);
    double weights = member(text, "weights"), kv = 1024.0 * 32 * 4096 * 2 * 2;
    double read = weights - 32000.0 * 4096 * 2;
    double users = 80.0 * (1 << 30) - weights;
    users = (double)(long)(users / kv);
    assert_true(member(text, "kv_bytes") == kv);
    assert_true(member(text, "users") == users);
    assert_true(member(text, "decode_tps") * (read + kv) / 1e12 > 0.999);
    assert_true(member(text, "decode_tps") * (read + kv) / 1e12 < 1.001);
    assert_true(member(text, "switch_s") == 2 * kv / 1e10);
    assert_true(member(text, "restore_s") == kv / 2e9);
    double kept = 256, quarter;
    assert_int_equal(larder(text,
                            "calc --like llama-7b --flops 100T --bw 1T --memory 80G --context 1024 "
                            "--rows %.0f --kv-bits 4 --json",
                            kept),
                     0);
    quarter = member(text, "kv_bytes");
    assert_true(quarter == kv / 16);
    assert_int_equal(larder(text, "calc --like llama-7b --flops 100T --bw 1T --memory 80G"), 0);
    assert_non_null(strstr(text, "4096"));
}

static void eval_kv_writes_its_files(void **state)
{
    char path[128];
    (void)state;
    assert_int_equal(
        larder(text,
               "eval kv --model %s/nano.gguf --context 192 --samples 1 --threads 1 "
               "--policies streaming-llm --budgets 32 --tasks single,perplexity --out %s/run",
               dir, dir),
        0);
    assert_non_null(strstr(text, "pass  a budget of 100 %"));
    static const char *const names[] = {"results.jsonl", "report.txt", "report.html"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/run/%s", dir, names[i]);
        assert_int_equal(access(path, R_OK), 0);
    }
}

static void mistakes_are_told_before_any_work(void **state)
{
    static const struct {
        const char *words, *say;
        int status;
    } all[] = {
        {"bench", "usage: larder bench engine", 2},
        {"bench engine", "--model is needed", 2},
        {"bench engine --model", "no value", 2},
        {"bench engine --model x --threads 0", "no number from 1 to 256", 2},
        {"bench engine --model x --speed", "no such option", 2},
        {"bench engine --model /nonexistent.gguf", "nonexistent", 1},
        {"bench engine --model x --codec y", "no codec", 1},
        {"model random --like nano", "--out is needed", 2},
        {"model random --like giant --out /tmp/x", "no shape 'giant'", 1},
        {"model random --like nano --type Q9 --out /tmp/x", "no type 'Q9'", 1},
        {"calc", "--model or --like is needed", 2},
        {"calc --like llama-7b --flops 1T", "together", 1},
        {"calc --like giant --flops 1T --bw 1T --memory 1G", "no shape 'giant'", 1},
        {"eval", "usage: larder eval kv", 2},
        {"eval kv --tasks everything", "no task 'everything'", 1},
        {"eval kv --model /nonexistent.gguf", "nonexistent", 1},
        {"eval kv --help", "docs/eval.md", 0},
        {"help calc", "--flops", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        int status = larder(text, "%s", all[i].words);
        if (status != all[i].status || !strstr(text, all[i].say))
            fail_msg("larder %s: status %d, %s", all[i].words, status, text);
    }
}

static int make(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/larder-measure-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return larder(text, "model random --like nano --type F32 --out %s/nano.gguf", dir);
}

static int clean(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bench_engine_prints_five_members),
        cmocka_unit_test(calc_follows_the_formulas),
        cmocka_unit_test(eval_kv_writes_its_files),
        cmocka_unit_test(mistakes_are_told_before_any_work),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
