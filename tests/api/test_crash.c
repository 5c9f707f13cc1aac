/* SPDX-License-Identifier: Apache-2.0
 * api/test_crash.c - kill -9 under load, again and again: what explain called stored is still
 * there, and nothing torn is served. Rounds: LARDER_CRASH_ROUNDS (10).
 */
#include "kit.h"

/* Answers each question with its own number, long enough to be torn: "<n> <n> <n> ...". */
static void numbered(struct up_conn *c, const struct up_req *q)
{
    static _Thread_local char text[9000], body[10000];
    const char *at = strstr(q->body, "number ");
    unsigned long n = at ? strtoul(at + 7, NULL, 10) : 0;
    size_t len = 0;
    while (len < 8000)
        len += (size_t)snprintf(text + len, sizeof text - len, "%lu ", n);
    snprintf(
        body, sizeof body,
        "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":"
        "[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"finish_reason\":"
        "\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}",
        text);
    up_reply(c, 200, "content-type: application/json\r\n", body);
}

static struct resp ask_number(const struct gw *g, const char *headers, unsigned long n)
{
    char body[256];
    snprintf(body, sizeof body, ASK("number %lu"), n);
    return ask(g, headers, body);
}

static void assert_whole(const struct resp *r, unsigned long n)
{
    char want[32];
    size_t k = (size_t)snprintf(want, sizeof want, "%lu ", n), at = 0;
    const char *text = strstr(r->body, "\"content\":\"");
    assert_non_null(text);
    text += 11;
    for (; text[at] != '"'; at += k)
        assert_memory_equal(text + at, want, k);
    assert_true(at >= 8000);
}

static bool is_stored(const struct gw *g, const char *id)
{
    char path[128], headers[160];
    snprintf(path, sizeof path, "/larder/v1/explain/%.32s", id);
    snprintf(headers, sizeof headers, "authorization: Bearer %s\r\n", g->admin_key);
    struct resp r = http(g->port, "GET", path, headers, NULL);
    bool yes = r.status == 200 && strcmp(json_at(r.body, "stored"), "true") == 0;
    resp_free(&r);
    return yes;
}

static void nothing_acknowledged_is_lost_by_kill_9(void **state)
{
    (void)state;
    static unsigned long stored[20000];
    const char *rounds_at = getenv("LARDER_CRASH_ROUNDS");
    int rounds = rounds_at ? atoi(rounds_at) : 10;
    size_t n_stored = 0;
    unsigned long next = 1;
    up = up_start(numbered);
    char dir[] = "/tmp/larder-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    srand(7);
    for (int round = 0; round < rounds; round++) {
        struct gw *g = gw_start(up, dir, NULL);
        struct resp first =
            ask_number(g, "", next++); /* the credential proves itself anew: proofs are written */
        resp_free(&first);             /* every second, and may die with the process */
        for (size_t i = 0; i < n_stored; i += 1 + (size_t)rand() % 4) {
            struct resp r = ask_number(g, ONLY_CACHED, stored[i]);
            if (r.status != 200)
                fail_msg("round %d: number %lu was acknowledged and is lost: %s", round, stored[i],
                         r.body);
            assert_whole(&r, stored[i]);
            resp_free(&r);
        }
        char ids[60][32];
        unsigned long nums[60];
        int n = 20 + rand() % 40;
        for (int i = 0; i < n; i++) {
            nums[i] = next++;
            struct resp r = ask_number(g, "", nums[i]);
            assert_int_equal(r.status, 200);
            assert_whole(&r, nums[i]);
            snprintf(ids[i], sizeof ids[i], "%s", header(&r, "x-larder-request-id"));
            resp_free(&r);
        }
        sleep_ms(rand() % 40); /* before, during or after the commit */
        for (int i = 0; i < n; i++)
            if (is_stored(g, ids[i]))
                stored[n_stored++] = nums[i];
        gw_stop(g, SIGKILL);
        free(g);
    }
    assert_true(n_stored > (size_t)rounds); /* else the test shows nothing */
    struct gw *g = gw_start(up, dir, NULL);
    assert_int_equal(gw_stop(g, SIGTERM), 0);
    gw_free(g);
    up_stop(up);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost_by_kill_9),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
