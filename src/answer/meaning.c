/* SPDX-License-Identifier: Apache-2.0
 * answer/meaning.c - a request seen as a question in a context.
 *
 *   system, tools, format, sampling ...   \
 *   u1  a1   u2  a2   u3                   >  partition (without u and a)
 *   |   |    |   |    +-- the question    /   turn ids: u1 | u1 a1 u2 | u1 a1 u2 a2 u3, all with
 * the rest |   said |   said
 *
 * The partition and the turn ids are hashes over the member digests that key.c made: members that
 * are messages of users and assistants are left out of the partition, and cut off behind a turn in
 * its id. Inclusion is the rule here too: what is not plain text said by user or assistant is part
 * of the partition or makes the request one that only the exact shelf serves. So a request-semantic
 * field that is added to key.c one day separates here at once.
 *
 * `said` is a digest of text, not of a message, since a stored answer is events and not a message
 * of the next request: both are trimmed, which is what clients that cut trailing blanks need.
 */
#include "answer/answer.h"

#include "match/match.h"

#define NAMED "larder-meaning-1"

static int text_of(struct lr_arena *a, const struct lr_msg *m, size_t max, struct lr_str *out)
{
    size_t n = 0, parts = 0;
    for (const struct lr_part *p = m->parts; p; p = p->next, parts++)
        n += p->text.n + 1;
    LR_FAIL_IF(n > max, LR_EOVER);
    if (parts == 1) {
        *out = lr_str_trim(m->parts->text);
        return 0;
    }
    char *to = lr_arena_alloc(a, n + 1, 1);
    LR_FAIL_IF(!to, LR_ENOMEM);
    n = 0;
    for (const struct lr_part *p = m->parts; p; p = p->next) {
        memcpy(to + n, p->text.p, p->text.n);
        n += p->text.n;
        to[n++] = '\n';
    }
    *out = lr_str_trim(lr_str(to, n));
    return 0;
}

static bool harmless(const struct lr_extra *e)
{
    for (; e; e = e->next)
        if (!lr_str_is(e->v->key, "cache_control")) /* says what to keep, not what to answer */
            return false;
    return true;
}

/* Nothing but text, said by nobody in particular. */
static bool is_plain(const struct lr_msg *m)
{
    if (m->name.n || !harmless(m->extra))
        return false;
    for (const struct lr_part *p = m->parts; p; p = p->next)
        if (p->type != LR_PART_TEXT || !harmless(p->extra))
            return false;
    return m->parts != NULL;
}

static void hash_text(struct lr_str text, const uint8_t secret[32], struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init_keyed(&h, secret);
    lr_blake3_add_str(&h, LR_STR(NAMED "-said"));
    lr_blake3_add_str(&h, lr_str_trim(text));
    lr_blake3_out(&h, out->b, sizeof out->b);
}

/* The index of "messages[12]", or SIZE_MAX. */
static size_t message_index(const char *name)
{
    uint64_t i;
    size_t n = strlen(name);
    if (strncmp(name, "messages[", 9) || n < 11 || name[n - 1] != ']' ||
        lr_parse_u64(lr_str(name + 9, n - 10), &i))
        return SIZE_MAX;
    return (size_t)i;
}

static bool spoken(const struct lr_msg *m)
{
    return m && (m->role == LR_ROLE_USER || m->role == LR_ROLE_ASSISTANT);
}

/* Members, without messages from `upto` on; without spoken ones at all when `bare`. */
static void hash_members(const struct lr_key *k, const struct lr_msg *const *msgs, size_t n_msgs,
                         size_t upto, bool bare, const uint8_t secret[32], struct lr_digest *out)
{
    struct lr_blake3 h;
    lr_blake3_init_keyed(&h, secret);
    lr_blake3_add_str(&h, bare ? LR_STR(NAMED "-partition") : LR_STR(NAMED "-turn"));
    for (size_t i = 0; i < k->n_members; i++) {
        size_t at = message_index(k->members[i].name);
        if (at != SIZE_MAX && (at >= upto || (bare && at < n_msgs && spoken(msgs[at]))))
            continue;
        lr_blake3_add_str(&h, lr_strz(k->members[i].name));
        lr_blake3_add_u64(&h, k->members[i].digest);
    }
    lr_blake3_out(&h, out->b, sizeof out->b);
}

/* What a message does to the list of turns; NULL: fine. */
static const char *take(struct lr_arena *a, const struct lr_msg *m, const uint8_t secret[32],
                        struct lr_meaning *out)
{
    if (m->role == LR_ROLE_SYSTEM || m->role == LR_ROLE_DEVELOPER)
        return NULL; /* of the partition, place included */
    if (!spoken(m) || !is_plain(m))
        return "turns";
    struct lr_str text;
    int rc = text_of(a, m, LR_MIB(1), &text);
    if (rc)
        return rc == LR_ENOMEM ? "memory" : "too-long";
    struct lr_meaning_turn *last = out->n_turns ? &out->turn[out->n_turns - 1] : NULL;
    static const struct lr_digest none;
    bool answered = last && !lr_digest_eq(&last->said, &none);
    if (m->role == LR_ROLE_ASSISTANT) {
        if (!last || answered)
            return "turns";
        hash_text(text, secret, &last->said);
        out->before = text;
        return NULL;
    }
    if (last && !answered)
        return "turns";
    if (out->n_turns > LR_MEANING_TURNS)
        return "turns";
    out->turn[out->n_turns++].text = text;
    return NULL;
}

/* The last user turn before the question and what was said to it, cut from the front. */
static const char *set_before(struct lr_arena *a, struct lr_meaning *m)
{
    if (m->n_turns < 2) {
        m->before = (struct lr_str){0};
        return NULL;
    }
    struct lr_str asked = m->turn[m->n_turns - 2].text, said = m->before;
    size_t n = asked.n + 1 + said.n, max = LR_MEANING_BEFORE;
    char *to = lr_arena_alloc(a, n, 1);
    if (!to)
        return "memory";
    memcpy(to, asked.p, asked.n);
    to[asked.n] = '\n';
    if (said.n)
        memcpy(to + asked.n + 1, said.p, said.n);
    size_t from = n > max ? n - max : 0;
    while (from < n && ((unsigned char)to[from] & 0xC0) == 0x80) /* not inside a character */
        from++;
    m->before = lr_str(to + from, n - from);
    return NULL;
}

const char *lr_meaning_read(struct lr_arena *a, const struct lr_request *r, const struct lr_key *k,
                            const uint8_t secret[32], struct lr_meaning *out)
{
    const struct lr_msg *msgs[4 * (LR_MEANING_TURNS + 1)], *last = NULL;
    size_t at[LR_MEANING_TURNS + 1], n = 0;
    memset(out, 0, sizeof *out);
    if (r->kind != LR_KIND_CHAT || r->bypass)
        return "kind";
    for (const struct lr_msg *m = r->msgs; m; last = m, m = m->next)
        ;
    if (!last || last->role != LR_ROLE_USER)
        return "last-turn";
    if (!is_plain(last))
        return "media";
    for (const struct lr_msg *m = r->msgs; m; m = m->next) {
        if (n == LR_COUNT(msgs))
            return "turns";
        size_t turns = out->n_turns;
        const char *why = take(a, m, secret, out);
        if (why)
            return why;
        if (out->n_turns > turns)
            at[turns] = n;
        msgs[n++] = m;
    }
    struct lr_str question = out->turn[out->n_turns - 1].text;
    if (!question.n)
        return "empty";
    if (question.n > LR_FACTS_TEXT_MAX)
        return "too-long";
    for (size_t i = 0; i < out->n_turns; i++)
        hash_members(k, msgs, n, at[i] + 1, false, secret, &out->turn[i].id);
    hash_members(k, msgs, n, SIZE_MAX, true, secret, &out->partition);
    return set_before(a, out);
}

bool lr_meaning_said(struct lr_str log, const uint8_t secret[32], struct lr_digest *out)
{
    struct lr_event ev;
    struct lr_str text = {0};
    size_t texts = 0;
    int more;
    while ((more = lr_event_next(&log, &ev)) == 1) {
        if (ev.type == LR_EV_PART && (ev.choice || ev.sub != LR_PART_TEXT))
            return false;
        if (ev.type == LR_EV_DELTA) { /* compact: one of a part */
            text = ev.a;
            texts++;
        }
    }
    if (more || texts != 1 || !text.n)
        return false;
    hash_text(text, secret, out);
    return true;
}
