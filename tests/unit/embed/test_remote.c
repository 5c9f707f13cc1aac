/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/embed/test_remote.c - a remote encoder before a scripted server: what is sent, what is
 * believed, and that every failure ends in time with a number.
 */
#include "embed/embed.h"
#include "../net/peer.h"

#include <math.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the following */
static const char *answer;                               /* body of the next answers */
static int status = 200;
static bool silent;      /* never answer */
static char seen[65536]; /* the last request */

static void next_answer(int code, const char *body)
{
    pthread_mutex_lock(&lock);
    status = code;
    answer = body;
    silent = !body;
    pthread_mutex_unlock(&lock);
}

static void script(struct peer_conn *c)
{
    static _Thread_local char all[300000];
    while (peer_request(c)) {
        pthread_mutex_lock(&lock);
        bool quiet = silent;
        memcpy(seen, c->in, c->used);
        seen[c->used] = 0;
        if (!quiet)
            snprintf(all, sizeof all, "HTTP/1.1 %d X\r\ncontent-length: %zu\r\n\r\n%s", status,
                     strlen(answer), answer);
        pthread_mutex_unlock(&lock);
        if (quiet)
            peer_wait_gone(c);
        if (quiet || !peer_says(c, all))
            return;
    }
}

struct bed {
    struct peer peer;
    struct lr_net *net;
    struct lr_embed_model *m;
    struct lr_embed_scratch *s;
    char url[128];
};

static void set_up(struct bed *b, struct lr_embed_remote r)
{
    struct lr_err err = {0};
    peer_open(&b->peer, script, NULL);
    assert_int_equal(lr_net_open(&b->net, NULL), 0);
    snprintf(b->url, sizeof b->url, "%s/v1/embeddings", b->peer.url);
    r.net = b->net;
    r.url = b->url;
    r.model = "small";
    r.dim = 2;
    if (lr_embed_open_remote(&b->m, &r, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(lr_embed_scratch_open(b->m, &b->s), 0);
    next_answer(200, "");
}

static void tear_down(struct bed *b)
{
    lr_embed_scratch_close(b->s);
    lr_embed_close(b->m);
    lr_net_close(b->net);
    peer_close(&b->peer);
}

static void vectors_come_in_the_order_of_texts(void **state)
{
    (void)state;
    static struct bed b;
    set_up(&b, (struct lr_embed_remote){.auth = "Bearer s3cret", .send_dim = true});
    struct lr_str t[4] = {LR_STR("one"), LR_STR("  \n"), LR_STR("tw\"o"), LR_STR("")};
    float v[8];
    struct lr_embed_note n[4];
    next_answer(200, "{\"object\":\"list\",\"data\":[{\"index\":1,\"embedding\":[0,-2]},"
                     "{\"index\":0,\"embedding\":[3.0,4e0]}],\"usage\":{}}");
    assert_int_equal(lr_embed_encode(b.m, b.s, t, 4, v, n, NULL), 0);
    static const float want[8] = {0.6f, 0.8f, 0, 0, 0, -1, 0, 0};
    for (int i = 0; i < 8; i++)
        assert_true(fabsf(v[i] - want[i]) < 1e-6f);
    assert_true(!n[0].empty && n[1].empty && !n[2].empty && n[3].empty);
    assert_non_null(strstr(seen, "POST /v1/embeddings"));
    assert_non_null(strstr(seen, "authorization: Bearer s3cret"));
    assert_non_null(strstr(seen, "{\"model\":\"small\",\"input\":[\"one\",\"tw\\\"o\"],"
                                 "\"encoding_format\":\"float\",\"dimensions\":2}"));
    next_answer(200, "");
    assert_int_equal(lr_embed_encode(b.m, b.s, t + 1, 1, v, n, NULL), 0); /* nothing is sent */
    assert_int_equal(atomic_load(&b.peer.n_requests), 1);
    tear_down(&b);
}

static void failures_are_numbers(void **state)
{
    (void)state;
    static const struct {
        int status, rc;
        const char *answer;
    } bad[] = {
        {401, LR_EDENIED, "{}"},
        {429, LR_EBUSY, "{}"},
        {503, LR_EBUSY, ""},
        {500, LR_EIO, "{\"data\":[]}"},
        {302, LR_EIO, ""},
        {200, LR_EPARSE, ""},
        {200, LR_EPARSE, "{\"data\":[]}"},
        {200, LR_EPARSE, "{\"data\":[{\"index\":0,\"embedding\":\"AAAA\"}]}"},
        {200, LR_EVERSION, "{\"data\":[{\"index\":0,\"embedding\":[1,2,3]}]}"},
        {200, LR_EPARSE, "{\"data\":[{\"index\":1,\"embedding\":[1,2]}]}"},
        {200, LR_EPARSE, "{\"data\":[{\"index\":0,\"embedding\":[0,0]}]}"},
        {200, LR_EPARSE, "{\"data\":[{\"index\":0,\"embedding\":[1,\"x\"]}]}"},
        {200, LR_EPARSE, "{\"data\":[{\"index\":0,\"embedding\":[1e300,1]}]}"},
    };
    static struct bed b;
    set_up(&b, (struct lr_embed_remote){0});
    struct lr_str t = LR_STR("x");
    float v[2];
    for (size_t i = 0; i < LR_COUNT(bad); i++) {
        struct lr_err err = {0};
        next_answer(bad[i].status, bad[i].answer);
        int rc = lr_embed_encode(b.m, b.s, &t, 1, v, NULL, &err);
        if (rc != bad[i].rc || err.code != rc || !err.msg[0])
            fail_msg("case %zu: %s %s", i, lr_errname(rc), err.msg);
    }
    tear_down(&b);
}

static void an_index_twice_is_no_answer(void **state)
{
    (void)state;
    float v[4];
    assert_int_equal(lr_embed_remote_parse(LR_STR("{\"data\":[{\"index\":0,\"embedding\":[1,2]},"
                                                  "{\"index\":0,\"embedding\":[1,2]}]}"),
                                           2, 2, v, NULL), LR_EPARSE);
    assert_int_equal(lr_embed_remote_parse(LR_STR("{\"data\":[{\"embedding\":[1,0]},"
                                                  "{\"embedding\":[0,1]}]}"),
                                           2, 2, v, NULL), 0); /* without: as they come */
    assert_true(v[0] == 1 && v[3] == 1);
}

static void an_answer_far_too_long_is_cut_off(void **state)
{
    (void)state;
    static struct bed b;
    static char huge[200000];
    set_up(&b, (struct lr_embed_remote){0});
    struct lr_str t = LR_STR("x");
    float v[2];
    memset(huge, ' ', sizeof huge - 1);
    next_answer(200, huge);
    assert_int_equal(lr_embed_encode(b.m, b.s, &t, 1, v, NULL, NULL), LR_EOVER);
    tear_down(&b);
}

static void the_deadline_holds(void **state)
{
    (void)state;
    static struct bed b;
    set_up(&b, (struct lr_embed_remote){.deadline_ms = 60});
    struct lr_str t = LR_STR("x");
    float v[2];
    struct lr_err err = {0};
    next_answer(200, NULL);
    assert_int_equal(lr_embed_encode(b.m, b.s, &t, 1, v, NULL, &err), LR_ETIMEOUT);
    tear_down(&b);
}

static void every_failing_call_is_a_miss(void **state)
{
    (void)state;
    static struct bed b;
    set_up(&b, (struct lr_embed_remote){.auth = "Bearer x"});
    struct lr_str t[2] = {LR_STR("x"), LR_STR("y")};
    float v[4];
    next_answer(200, "{\"data\":[{\"embedding\":[1,0]},{\"embedding\":[0,1]}]}");
    bool hit = true;
    for (uint64_t n = 1; n < 500 && hit; n++) {
        struct lr_err err = {0};
        lr_fault_arm(n);
        int rc = lr_embed_encode(b.m, b.s, t, 2, v, NULL, &err);
        hit = lr_fault_seen() >= n;
        lr_fault_arm(0);
        assert_true(rc ? err.code == rc && err.msg[0] : v[0] == 1 && v[3] == 1);
        assert_true(hit || !rc);
    }
    assert_false(hit);
    tear_down(&b);
}

static void ids_are_of_how_it_is_asked(void **state)
{
    (void)state;
    static struct bed b;
    struct lr_embed_model *m;
    set_up(&b, (struct lr_embed_remote){0});
    struct lr_embed_remote r = {.net = b.net, .url = b.url, .model = "small", .dim = 2};
    const struct lr_digest *id = &lr_embed_info(b.m)->id;
    for (int i = 0; i < 4; i++) {
        struct lr_embed_remote o = r;
        o.auth = "another key";
        o.dim += i == 1;
        o.model = i == 2 ? "large" : o.model;
        o.revision = i == 3 ? "2" : NULL;
        assert_int_equal(lr_embed_open_remote(&m, &o, NULL), 0);
        assert_int_equal(lr_digest_eq(id, &lr_embed_info(m)->id), i == 0);
        lr_embed_close(m);
    }
    r.dim = 0;
    assert_int_equal(lr_embed_open_remote(&m, &r, NULL), LR_EINVAL);
    r.dim = 2;
    r.url = "ftp://x/";
    assert_int_equal(lr_embed_open_remote(&m, &r, NULL), LR_EINVAL);
    r.url = b.url;
    for (uint64_t n = 1; n < 20; n++) {
        lr_fault_arm(n);
        int rc = lr_embed_open_remote(&m, &r, NULL);
        lr_fault_arm(0);
        if (!rc) {
            lr_embed_close(m);
            break;
        }
        assert_int_equal(rc, LR_ENOMEM);
    }
    tear_down(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_come_in_the_order_of_texts),
        cmocka_unit_test(failures_are_numbers),
        cmocka_unit_test(an_index_twice_is_no_answer),
        cmocka_unit_test(an_answer_far_too_long_is_cut_off),
        cmocka_unit_test(the_deadline_holds),
        cmocka_unit_test(every_failing_call_is_a_miss),
        cmocka_unit_test(ids_are_of_how_it_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
