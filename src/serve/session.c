/* SPDX-License-Identifier: Apache-2.0
 * serve/session.c - who is the operator: the admin key, the dashboard's sessions, and how often one
 * may be wrong.
 *
 * A session is a random token of 256 bits in a cookie that no script can read, sent to this site
 * only (SameSite=Strict), kept in memory: a restart signs everybody out. A bounded number live at
 * once; the one nearest its end gives way. Tokens are compared in constant time, all of them,
 * whatever matches.
 *
 * Wrong keys cost a token of a bucket (BURST at once, one a second after that); when it is empty,
 * keys are not even compared. Callers from this machine have a bucket of their own, so that a
 * stranger who guesses all day does not lock the operator's shell out. Sessions are not affected.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define SESSIONS_MAX        32
#define SESSION_NS          (12ULL * 3600 * LR_SEC)
#define BURST               20
#define REFILL_NS           LR_SEC
#define COOKIE              "larder_session"
#define FEEDBACK_SLOTS      256
#define FEEDBACK_PER_MINUTE 60

struct session {
    uint8_t token[32];
    uint64_t until_ns; /* 0 = free */
};

struct bucket {
    uint64_t used;    /* tokens taken and not refilled */
    uint64_t last_ns; /* of the last refill */
};

struct lr_sessions {
    pthread_mutex_t mu; /* guards all below */
    struct session v[SESSIONS_MAX];
    struct bucket wrong[2]; /* from elsewhere, from this machine */
    struct {
        uint64_t minute, n;
    } feedback[FEEDBACK_SLOTS]; /* by tenant, hashed: sharing a slot means sharing its allowance */
};

int lr_sessions_open(struct lr_sessions **out)
{
    struct lr_sessions *s = lr_new(struct lr_sessions);
    LR_FAIL_IF(!s, LR_ENOMEM);
    pthread_mutex_init(&s->mu, NULL);
    *out = s;
    return 0;
}

void lr_sessions_close(struct lr_sessions *s)
{
    if (!s)
        return;
    pthread_mutex_destroy(&s->mu);
    explicit_bzero(s->v, sizeof s->v);
    lr_free(s);
}

/* ---- wrong keys ---- */

static bool empty_locked(struct bucket *b, uint64_t now_ns)
{
    uint64_t due = (now_ns - b->last_ns) / REFILL_NS;
    if (due) {
        b->used = due < b->used ? b->used - due : 0;
        b->last_ns = now_ns;
    }
    return b->used >= BURST;
}

int lr_sessions_key(struct lr_sessions *s, struct lr_str given, struct lr_str admin_key, bool local,
                    uint64_t now_ns)
{
    pthread_mutex_lock(&s->mu);
    struct bucket *b = &s->wrong[local];
    int rc = empty_locked(b, now_ns) ? LR_EBUSY : 0;
    if (!rc && !lr_str_same_secret(given, admin_key)) {
        b->used++;
        rc = LR_EDENIED;
    }
    pthread_mutex_unlock(&s->mu);
    return rc;
}

bool lr_sessions_feedback(struct lr_sessions *s, uint64_t tenant, uint64_t now_ns)
{
    uint64_t minute = now_ns / (60 * LR_SEC);
    size_t i = tenant % FEEDBACK_SLOTS;
    pthread_mutex_lock(&s->mu);
    if (s->feedback[i].minute != minute) {
        s->feedback[i].minute = minute;
        s->feedback[i].n = 0;
    }
    bool ok = s->feedback[i].n < FEEDBACK_PER_MINUTE;
    s->feedback[i].n += ok;
    pthread_mutex_unlock(&s->mu);
    return ok;
}

/* ---- sessions ---- */

/* The token in "a=b; larder_session=HEX; c=d". */
static bool read_cookie(struct lr_str cookies, uint8_t token[32])
{
    while (cookies.p) {
        struct lr_str value = lr_str_trim(lr_str_cut(&cookies, ';')),
                      name = lr_str_cut(&value, '=');
        if (lr_str_is(name, COOKIE) && value.n == 64 && lr_unhex(value, token, 32) == 0)
            return true;
    }
    return false;
}

static struct session *find_locked(struct lr_sessions *s, const uint8_t token[32], uint64_t now_ns)
{
    struct session *found = NULL;
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (lr_str_same_secret(lr_str(s->v[i].token, 32), lr_str(token, 32)) &&
            s->v[i].until_ns > now_ns)
            found = &s->v[i];
    return found;
}

bool lr_sessions_cookie(struct lr_sessions *s, struct lr_str cookies, uint64_t now_ns)
{
    uint8_t token[32];
    if (!read_cookie(cookies, token))
        return false;
    pthread_mutex_lock(&s->mu);
    bool ok = find_locked(s, token, now_ns) != NULL;
    pthread_mutex_unlock(&s->mu);
    explicit_bzero(token, sizeof token);
    return ok;
}

static void add(struct lr_sessions *s, const uint8_t token[32], uint64_t now_ns)
{
    pthread_mutex_lock(&s->mu);
    struct session *at = &s->v[0];
    for (size_t i = 1; i < SESSIONS_MAX; i++)
        if (s->v[i].until_ns < at->until_ns)
            at = &s->v[i];
    memcpy(at->token, token, sizeof at->token);
    at->until_ns = now_ns + SESSION_NS;
    pthread_mutex_unlock(&s->mu);
}

/* ---- verbs ---- */

static void set_cookie(struct lr_req *r, const char *value, uint64_t seconds)
{
    char line[256];
    int k =
        snprintf(line, sizeof line, COOKIE "=%s; HttpOnly; SameSite=Strict; Path=/; Max-Age=%llu%s",
                 value, (unsigned long long)seconds, *r->conf->c->tls_cert_file ? "; Secure" : "");
    r->admin.cookie = lr_arena_strz(&r->arena, lr_str(line, k > 0 ? (size_t)k : 0));
    explicit_bzero(line, sizeof line);
    if (!r->admin.cookie)
        lr_admin_fail(r, 503, "out_of_memory", "no memory for the session");
}

void lr_verb_sign_in(struct lr_req *r)
{
    struct lr_str key = {NULL, 0};
    struct lr_json *o = lr_admin_body(r);
    if (!o)
        return;
    if (!lr_json_text(lr_json_get(o, "key"), &key)) {
        lr_admin_fail(r, 400, "invalid_request", "the body must be {\"key\": \"la-...\"}");
        return;
    }
    uint64_t now = lr_clock_mono_ns();
    int rc = lr_sessions_key(r->serve->sessions, lr_str_trim(key), lr_strz(r->serve->admin_key),
                             lr_conn_loopback(r->conn), now);
    if (rc == LR_EBUSY) {
        r->admin.retry_s = 1;
        lr_admin_fail(r, 429, "too_many_tries", "too many wrong keys; try again in a moment");
        return;
    }
    if (rc) {
        lr_admin_fail(r, 401, "admin_key", "this is not the admin key");
        return;
    }
    uint8_t token[32];
    char hex[65];
    lr_random_bytes(token, sizeof token);
    lr_hex(token, sizeof token, hex);
    add(r->serve->sessions, token, now);
    set_cookie(r, hex, SESSION_NS / LR_SEC);
    explicit_bzero(token, sizeof token);
    explicit_bzero(hex, sizeof hex);
    lr_buf_addz(&r->out, "{\"signed_in\":true}");
}

void lr_verb_signed_in(struct lr_req *r)
{
    lr_buf_addz(&r->out, "{\"signed_in\":true}"); /* else the caller would have had a 401 */
}

void lr_verb_sign_out(struct lr_req *r)
{
    uint8_t token[32];
    struct lr_sessions *s = r->serve->sessions;
    if (read_cookie(lr_conn_header(r->conn, "cookie"), token)) {
        pthread_mutex_lock(&s->mu);
        struct session *at = find_locked(s, token, lr_clock_mono_ns());
        if (at)
            explicit_bzero(at, sizeof *at);
        pthread_mutex_unlock(&s->mu);
    }
    set_cookie(r, "", 0);
    lr_buf_addz(&r->out, "{\"signed_in\":false}");
}
