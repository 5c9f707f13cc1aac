/* SPDX-License-Identifier: Apache-2.0
 * serve/admin.h - the operator's door, for its own files: verbs, sessions, tallies, the dashboard.
 *
 *   admin.c    paths, who may call what, replies     tally.c   running totals by tenant and reason
 *   session.c  sign-in, cookies, wrong keys          ui.c      the page: web/ as bytes
 *   entry.c    entries: list, get, delete            stats.c   stats, instances, config
 *   put.c      entries: put                          models.c  GET /v1/models
 *   explain.c  explain, requests, trace              metrics.c GET /metrics
 *   kv_*.c     the KV store (kv_admin.h)
 */
#ifndef LR_SERVE_ADMIN_H
#define LR_SERVE_ADMIN_H

#include "base/base.h"

struct lr_req;
struct lr_serve;
struct lr_conf;
struct lr_record;

/* ---- admin.c ---- */

struct lr_verb {
    const char *method, *path;
    const char *params; /* names its query may hold, blank-separated; others are refused */
    enum { LR_FOR_ALL, LR_FOR_LOCAL, LR_FOR_ADMIN, LR_FOR_CLIENT } who;
    bool tail; /* path ends in '/': what follows is the argument */
    bool slow; /* runs in the pool */
    /* Appends the body to r->out, or calls lr_admin_fail. Status 200 and JSON unless it says
     * otherwise. */
    void (*run)(struct lr_req *r);
};

/* The group of struct lr_req that belongs to admin. */
struct lr_admin {
    const struct lr_verb *verb;
    struct lr_str arg;          /* of a verb with a tail, decoded */
    bool is_admin;              /* the caller has shown the admin key or a session */
    int status;                 /* 0: not answered yet */
    const char *type;           /* content type; NULL: JSON */
    const char *cookie, *allow; /* headers, or NULL */
    const char *csp;            /* NULL: nothing may be loaded */
    unsigned retry_s;
};

void lr_admin_fail(struct lr_req *r, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* %XX of a path undone; p NULL: malformed, or no memory. Arena memory, NUL-terminated. */
struct lr_str lr_admin_decode(struct lr_req *r, struct lr_str s);
/* The decoded value of a query parameter; a view with p NULL when absent. Arena memory. */
struct lr_str lr_admin_param(struct lr_req *r, const char *name);
/* true: absent (then *out is untouched) or a number up to max; false: a failure has been written.
 */
bool lr_admin_number(struct lr_req *r, const char *name, uint64_t max, uint64_t *out);
bool lr_admin_flag(struct lr_req *r, const char *name); /* "true", "1" or just named */
/* A member of the object being written. */
static inline void lr_field_u64(struct lr_jw *w, const char *key, uint64_t v)
{
    lr_jw_key(w, key);
    lr_jw_u64(w, v);
}
static inline void lr_field_real(struct lr_jw *w, const char *key, double v)
{
    lr_jw_key(w, key);
    lr_jw_real(w, v);
}
static inline void lr_field_text(struct lr_jw *w, const char *key, const char *v)
{
    lr_jw_key(w, key);
    lr_jw_strz(w, v);
}
static inline void lr_field_bool(struct lr_jw *w, const char *key, bool v)
{
    lr_jw_key(w, key);
    lr_jw_bool(w, v);
}
/* The JSON object in the body, or NULL: a failure has been written. */
struct lr_json *lr_admin_body(struct lr_req *r);

/* ---- the verbs ---- */

void lr_verb_ui(struct lr_req *);      /* ui.c */
void lr_verb_metrics(struct lr_req *); /* metrics.c */
void lr_verb_models(struct lr_req *);  /* models.c */
void lr_verb_sign_in(struct lr_req *); /* session.c */
void lr_verb_signed_in(struct lr_req *);
void lr_verb_sign_out(struct lr_req *);
void lr_verb_list(struct lr_req *); /* entry.c */
void lr_verb_get(struct lr_req *);
void lr_verb_delete(struct lr_req *);
void lr_verb_purge(struct lr_req *);
void lr_verb_flush(struct lr_req *);
void lr_verb_feedback(struct lr_req *);
void lr_verb_put(struct lr_req *);     /* put.c */
void lr_verb_explain(struct lr_req *); /* explain.c */
void lr_verb_requests(struct lr_req *);
void lr_verb_trace(struct lr_req *);
void lr_verb_stats(struct lr_req *); /* stats.c */
void lr_verb_instances(struct lr_req *);
void lr_verb_config(struct lr_req *);
void lr_verb_kv_lookup(struct lr_req *); /* kv_admin.c */
void lr_verb_kv_prefix(struct lr_req *);
void lr_verb_kv_pin(struct lr_req *);
void lr_verb_kv_unpin(struct lr_req *);
void lr_verb_kv_move(struct lr_req *);
void lr_verb_kv_clear(struct lr_req *);
void lr_verb_kv_epoch(struct lr_req *);
void lr_verb_kv_quotas(struct lr_req *);
void lr_verb_kv_quota(struct lr_req *);
void lr_verb_kv_health(struct lr_req *); /* kv_tell.c */
void lr_verb_kv_doctor(struct lr_req *);

/* models.c: is this GET /v1/models (or one of them) and do we answer it ourselves? */
bool lr_models_own(const struct lr_req *r);

/* ---- session.c ---- */

struct lr_sessions;
int lr_sessions_open(struct lr_sessions **out);
void lr_sessions_close(struct lr_sessions *);
/* Is this the admin key? LR_EDENIED; LR_EBUSY: too many wrong ones lately, not even looked at. */
int lr_sessions_key(struct lr_sessions *, struct lr_str given, struct lr_str admin_key, bool local,
                    uint64_t now_ns);
/* A cookie header of a signed-in dashboard? */
bool lr_sessions_cookie(struct lr_sessions *, struct lr_str cookies, uint64_t now_ns);
/* The wrong-key and feedback allowance. false: used up. */
bool lr_sessions_feedback(struct lr_sessions *, uint64_t tenant, uint64_t now_ns);

/* ---- tally.c: running totals since the start ---- */

#define LR_TALLY_TENANTS 64 /* further ones are counted together as "other" */
#define LR_TALLY_REASONS 48

struct lr_tally_row {
    uint64_t id;   /* tenants; 0 = other */
    char name[64]; /* tenant's name, or the reason */
    uint64_t n[6]; /* by lr_outcome; reasons: n[0] only */
    uint64_t tokens_in_saved, tokens_out_saved, ms_saved;
    double money_saved, money_spent;
};
struct lr_tally;
int lr_tally_open(struct lr_tally **out);
void lr_tally_close(struct lr_tally *);
void lr_tally_add(struct lr_tally *, const struct lr_record *);
void lr_tally_total(struct lr_tally *, struct lr_tally_row *out);
/* Copies at most LR_TALLY_TENANTS + 1 (LR_TALLY_REASONS + 1) rows; returns how many. */
size_t lr_tally_tenants(struct lr_tally *, struct lr_tally_row *out);
size_t lr_tally_reasons(struct lr_tally *, struct lr_tally_row *out);
/* The name of a tenant seen since the start; "" when it is not known. */
void lr_tally_name(struct lr_tally *, uint64_t id, char out[64]);

/* ---- ui.c: what the build made of web/ ---- */

struct lr_ui_file {
    const char *path, *type;
    const unsigned char *bytes;
    size_t n;
};
extern const struct lr_ui_file lr_ui_files[];
extern const size_t lr_ui_files_n;

#endif
