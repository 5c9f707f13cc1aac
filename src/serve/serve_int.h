/* SPDX-License-Identifier: Apache-2.0
 * serve/serve_int.h - for serve/ itself: the request, its rooms, and what they share.
 *
 *   accept > parse > key > answer > route > run > send        pipeline.c alone moves a request
 *                            | hit ------------->|
 *
 * A room reads what earlier rooms wrote and writes only its own group of fields of struct lr_req.
 */
#ifndef LR_SERVE_SERVE_INT_H
#define LR_SERVE_SERVE_INT_H

#include "answer/answer.h"
#include "base/base.h"
#include "dialect/dialect.h"
#include "engine/engine.h"
#include "net/net.h"
#include "route/route.h"
#include "serve/admin.h"
#include "serve/door.h"
#include "serve/flight.h"
#include "serve/serve.h"

#define LR_ID_LEN 24 /* random part of request ids, lower-case letters and digits */

/* ---- timers (timer.c): one thread, for what must happen later ---- */

struct lr_timers;
struct lr_timer {
    uint64_t at_ns;
    void (*fire)(struct lr_timer *); /* on the timer thread; short; the timer is the caller's again */
    struct lr_timer *next;
};
int lr_timers_open(struct lr_timers **out);
void lr_timers_close(struct lr_timers *); /* fires what is pending at once, joins */
void lr_timers_add(struct lr_timers *, struct lr_timer *);

/* ---- tenants (tenant.c, keys.c) ---- */

struct lr_tenant {
    uint64_t id;        /* keyed hash: partition in metrics, quotas, selectors */
    uint8_t secret[32]; /* keys every digest of this tenant */
    char name[64];      /* managed: the tenant's name; pass-through: "p-" + 8 hex digits of id */
    bool proven;        /* hits may be served */
    const struct lr_opt_tenant *limits; /* or NULL */
};
struct lr_tenants;
int lr_tenants_open(struct lr_tenants **out, const char *dir, const char *keys_file, struct lr_err *err);
void lr_tenants_close(struct lr_tenants *);
/* Who sends this credential (the bare key; may be empty: anonymous). LR_EDENIED: managed, and the key
 * is unknown or revoked. proof_ms: keys.proof. */
int lr_tenants_find(struct lr_tenants *, struct lr_str credential, uint64_t now_ms, uint64_t proof_ms,
                    struct lr_tenant *out);
bool lr_tenants_managed(const struct lr_tenants *);
/* Pass-through: the credential just succeeded (or was refused) upstream. */
void lr_tenants_prove(struct lr_tenants *, uint64_t id, bool ok, uint64_t now_ms);
/* Limits. admit counts a request; afford asks whether there are tokens and money left for an upstream
 * call, which spend counts. LR_EOVER with the name of the limit in *which and seconds until it eases in
 * *retry_s. */
int lr_tenants_admit(struct lr_tenants *, const struct lr_tenant *, uint64_t now_ms, const char **which,
                     unsigned *retry_s);
int lr_tenants_afford(struct lr_tenants *, const struct lr_tenant *, uint64_t now_ms, const char **which,
                      unsigned *retry_s);
void lr_tenants_spend(struct lr_tenants *, uint64_t id, uint64_t tokens, double money, uint64_t now_ms);
/* Reads the keys file again if it changed; writes proofs that changed. Called every second or so. */
void lr_tenants_tick(struct lr_tenants *);
/* keys.c: the rows of a keys file and the salt of its hashes. */
int lr_keys_load(const char *path, uint8_t salt[32], struct lr_key_row **rows, size_t *n,
                 struct lr_err *err);
/* The deployment's secret (32 bytes, <dir>/secret, 0600). */
const uint8_t *lr_tenants_secret(const struct lr_tenants *);
/* Managed: the id of the tenant of this name, whether it has keys or not. */
uint64_t lr_tenants_named(const struct lr_tenants *, struct lr_str name);

/* ---- configuration snapshots (conf.c) ---- */

/* One upstream's running state; survives reloads while name and url stay. */
struct lr_up_state {
    uint64_t id; /* hash of name and url */
    atomic_uint inflight;
    atomic_uint failures;           /* in a row */
    atomic_uint_fast64_t open_until_ns; /* breaker: 0 = closed */
    atomic_bool probe_bad, probing;
    atomic_uint_fast64_t probe_ns; /* when the next probe is due */
    atomic_uint_fast64_t ewma_us; /* of time to first byte */
    atomic_uint_fast64_t tries, fails;
    atomic_uint refs;
};
struct lr_upstream {
    const struct lr_opt_upstream *opt;
    char name[64], host[128];
    char *base;      /* what stands before "/chat/completions": ends in /v1 or a path of its own */
    size_t root_n;   /* so much of base stands before paths that do not begin with /v1 */
    int speaks;      /* LR_SPEAKS_OPENAI or LR_SPEAKS_ANTHROPIC */
    char *key;       /* its own credential, or NULL */
    struct lr_up_state *state;
    struct lr_net_route route;
};
/* Immutable, refcounted; a request keeps the one it began with. */
struct lr_conf {
    struct lr_config *c;
    struct lr_upstream *ups;
    size_t n_ups;
    uint64_t epoch; /* of the raw shortcut: another config, another table */
    atomic_uint refs;
};
struct lr_conf *lr_conf_ref(struct lr_conf *);
void lr_conf_unref(struct lr_conf *);
/* old (may be NULL) hands on upstream states. Takes c, also on failure. */
int lr_conf_make(struct lr_conf **out, struct lr_config *c, const struct lr_conf *old,
                 const struct lr_serve_opts *opts, uint64_t epoch, struct lr_err *err);
/* The alias of this name, or NULL. */
const struct lr_opt_alias *lr_conf_alias(const struct lr_conf *, struct lr_str name);
/* Upstreams that serve `model` for a client: indexes into conf->ups (at most max); *sent = the model's
 * name upstream. 0 = nobody. */
size_t lr_conf_serving(const struct lr_conf *, struct lr_str model, size_t *idx, size_t max,
                       struct lr_str *sent);
/* Price of `model` on the newest date, or NULL. */
const struct lr_opt_price *lr_conf_price(const struct lr_conf *, struct lr_str model);
double lr_price_of(const struct lr_opt_price *, const struct lr_usage *); /* money; 0 when p is NULL */
const struct lr_opt_category *lr_conf_category(const struct lr_conf *, struct lr_str name);

/* ---- models of this machine (local.c) ---- */

/* One loaded model: opened at start, closed at the end, never changed in between. */
struct lr_local {
    char name[64];   /* the file's stem */
    const char *path; /* the configuration's; "" for the built-in one */
    struct lr_engine_model *model;
    struct lr_nn_tok *tok;
    struct lr_engine_template tmpl;
    struct lr_engine_lexicon *lexicon;
    struct lr_engine_grammar *object; /* any JSON object; NULL: the vocabulary cannot spell one */
    struct lr_engine *engine;
    struct lr_engine_sched *sched;
    struct lr_engine_plan plan;
    struct lr_policy_stack stack; /* without a codec: */
    struct lr_engine_codec codec; /* the stack's; name NULL: engine.kv-codec is one of the engine's own */
    struct lr_policy_budget budget;
    bool capped;     /* rows are evicted inside prompts too: the policy can do without the whole */
    enum lr_engine_pool pool;
    bool embeds;     /* its file does not forbid vectors */
    char print[33];  /* hex; of weights and of what else decides over replies: part of keys */
};
struct lr_locals {
    struct lr_local *v;
    size_t n;
    struct lr_reuse *reuse; /* the KV store's, opened before the models and closed behind them (kv.c) */
};
/* Will there be any? */
bool lr_locals_any(const struct lr_config *c);
/* Bytes that this process may use; 0: not known. */
uint64_t lr_serve_memory(void);
/* Loads what the configuration names. err->where is the file. */
int lr_locals_open(struct lr_locals *out, const struct lr_config *c, struct lr_err *err);
/* Ends what they make until drain_ns from now, then cancels; all their flights have landed. */
void lr_locals_stop(struct lr_locals *, uint64_t drain_ns);
void lr_locals_close(struct lr_locals *);
struct lr_local *lr_locals_find(const struct lr_locals *, struct lr_str name);
/* The local model that serves `model` for a client, or NULL; *alone: no upstream does as well. */
struct lr_local *lr_locals_serving(const struct lr_locals *, const struct lr_conf *,
                                   struct lr_str model, bool *alone);

/* ---- records of requests (trace.c) ---- */

enum lr_room {
    LR_ROOM_PARSE,
    LR_ROOM_KEY,
    LR_ROOM_ANSWER,
    LR_ROOM_ROUTE,
    LR_ROOM_RUN,
    LR_ROOM_SEND,
    LR_ROOM_N
};
enum lr_outcome { LR_OUT_HIT, LR_OUT_MISS, LR_OUT_BYPASS, LR_OUT_STALE, LR_OUT_COALESCED, LR_OUT_ERROR };
const char *lr_outcome_name(enum lr_outcome);
/* What an answer was taken from, or begun from: KV is a miss whose prompt was not computed whole. */
enum lr_shelf { LR_SHELF_NONE, LR_SHELF_EXACT, LR_SHELF_KV };
const char *lr_shelf_name(enum lr_shelf);
const char *lr_room_name(enum lr_room);

/* Agent hints of a request, as they came, cut to what traces keep ([A-Za-z0-9._:-] only). */
struct lr_hints {
    char program[40], parent[40], tool[40];
    bool last;
};
/* One finished request: no text, no secret. */
struct lr_record {
    char id[LR_ID_LEN + 1];
    uint64_t wall_ms;            /* arrival */
    uint64_t room_ns[LR_ROOM_N]; /* time spent, waiting included */
    uint64_t first_ns, total_ns; /* to the first byte of the answer, to its last */
    uint64_t tenant;
    char tenant_name[64], model[64], upstream[64], category[32], tag[64];
    char reason[48], choice[24]; /* x-larder-reason; why this upstream */
    struct lr_digest key;
    bool keyed, stored, stream;
    uint8_t outcome, shelf, dialect; /* lr_outcome; lr_shelf; lr_dialect_id */
    int status;
    uint16_t tries;
    uint64_t body_bytes, text_bytes, age_ms;
    struct lr_usage usage;
    double money_saved, money_spent;
    uint64_t ms_saved;
    struct lr_flight_bill bill; /* of a local model; else zeros */
    struct lr_hints hints;
    uint64_t blocks[LR_KEY_BLOCKS_MAX];
    size_t n_blocks;
    struct lr_key_member *members; /* owned by the record (lr_alloc) */
    size_t n_members;
};

struct lr_traces;
int lr_traces_open(struct lr_traces **out, size_t max, const char *file, struct lr_err *err);
void lr_traces_close(struct lr_traces *);
/* Takes r's members. */
void lr_traces_add(struct lr_traces *, struct lr_record *r);
/* `stored` came later than the record. */
void lr_traces_stored(struct lr_traces *, const char *id);
/* Writes the trace lines that have gathered. Called every second. */
void lr_traces_tick(struct lr_traces *);
/* A copy of a record (members copied too: free with lr_free). LR_ENOENT. */
int lr_traces_find(struct lr_traces *, const char *id, struct lr_record *out);
/* Newest first, at most n; members not copied. Returns how many. */
size_t lr_traces_recent(struct lr_traces *, struct lr_record *out, size_t n);
/* The newest record whose members are those of `key`: for explain of raw hits. */
int lr_traces_by_key(struct lr_traces *, const struct lr_digest *key, struct lr_record *out);
/* One JSONL line of the trace format (docs/formats/trace.md). */
int lr_trace_line(const struct lr_record *, struct lr_buf *out);

/* Totals over time for the dashboard: one bucket a minute, a day of them. */
struct lr_minute {
    uint64_t minute; /* Unix minutes */
    uint64_t n[6];   /* by lr_outcome */
    uint64_t tokens_saved, ms_saved, hit_ns, miss_ns;
    double money_saved, money_spent;
};
size_t lr_traces_minutes(struct lr_traces *, struct lr_minute *out, size_t n);

/* ---- the server ---- */

struct lr_serve {
    char *dir;
    struct lr_serve_opts opts;
    pthread_mutex_t conf_mu; /* guards conf; held for a pointer copy only */
    struct lr_conf *conf;
    struct lr_tenants *tenants;
    struct lr_answer *answer;
    struct lr_raw *raw;
    struct lr_replays *replays;
    struct lr_flights *flights;
    struct lr_locals locals;
    struct lr_net *net;
    struct lr_pool *pool;
    struct lr_timers *timers;
    struct lr_traces *traces;
    struct lr_tally *tally;
    struct lr_sessions *sessions;
    struct lr_door *door, *admin_door;
    struct lr_store *store; /* NULL: no KV store; kv.c */
    struct lr_resp *resp;
    struct lr_kv_desk *kv_desk; /* there when store is */
    char *kv_dir;
    struct lr_entrance {
        struct lr_serve *serve;
        bool admin;
    } front, back; /* what the doors give each exchange: which of them it came in by */
    struct lr_timer tick;
    pthread_mutex_t spares_mu; /* guards the two below: requests that ended, for those to come */
    struct lr_req *spares;
    size_t n_spares;
    char admin_key[72];
    uint64_t started_ms;
    /* answer.regenerate: when a key was last answered; hash of the key -> 32 bits of it, 32 of seconds */
    atomic_uint_fast64_t recent[4096];
    atomic_bool draining; /* no longer ready */
    atomic_bool closing;
    atomic_uint attempts; /* producers alive */
};
struct lr_conf *lr_serve_conf(struct lr_serve *); /* a reference */

/* ---- the KV store and its door (kv.c) ---- */

/* Opens both when the configuration names an address. A failure leaves what close takes. */
/* The store, before the models; the door, behind them. */
int lr_kv_open_store(struct lr_serve *, struct lr_err *err);
int lr_kv_open(struct lr_serve *, struct lr_err *err);
void lr_kv_close_door(struct lr_serve *);
void lr_kv_close(struct lr_serve *);
void lr_kv_metrics(struct lr_serve *, struct lr_buf *out);

/* ---- the request ---- */

enum lr_step { LR_STEP_NEXT, LR_STEP_DONE, LR_STEP_WAIT, LR_STEP_ERR };

/* cache-control and x-larder-* of a request, clamped to what the operator allows. */
struct lr_wish {
    bool no_cache, no_store, only_if_cached, bad; /* bad: a directive that does not parse */
    uint64_t max_age_ms, swr_ms, sie_ms, ttl_ms;
    struct lr_str category, tag;
    bool variety; /* category says that answers to variety may be stored */
};

struct lr_req {
    /* accept: set by begin */
    struct lr_serve *serve;
    struct lr_conf *conf;
    struct lr_conn *conn;
    struct lr_arena arena;
    struct lr_req *next_spare;
    char id[LR_ID_LEN + 1];
    uint64_t start_ns, wall_ms, stamp_ns;
    enum lr_room room;
    struct lr_buf body;
    int body_rc;
    bool admin_door; /* came in by admin.listen */
    struct lr_record *rec;
    struct lr_hints hints;

    /* work handed to the pool, and waking: mu is taken by whoever parks and whoever wakes */
    pthread_mutex_t mu;
    struct lr_job job;
    enum lr_step (*work)(struct lr_req *); /* asked for, or running in the pool */
    bool working, parked; /* a worker owns the request; the connection rests until it is done */

    /* parse */
    enum lr_dialect_id dialect; /* NONE: passed through */
    struct lr_str credential;
    struct lr_tenant tenant;
    struct lr_wish wish;
    struct lr_request *request;
    struct lr_str raw_prefix;
    bool raw_hit;     /* the raw shortcut knew these bytes: key.exact is set, request is NULL */
    uint16_t ask_n;   /* what the answer must satisfy, from the request or the raw note */
    uint64_t ask_max_tokens;
    bool stream, include_usage;
    bool preflight; /* a browser asks whether it may: no request of the walk */

    /* key */
    struct lr_key key;
    const struct lr_key_header *key_headers; /* headers that change the answer */
    size_t n_key_headers;
    bool may_store, may_serve;

    /* answer */
    struct lr_answer_hit hit; /* doc != NULL: a hit, or a stale candidate */
    enum lr_outcome outcome;
    const char *reason; /* static */

    /* route */
    size_t ups[64];
    size_t n_ups;
    struct lr_local *local;  /* it is answered here; NULL: by one of ups */
    struct lr_local *second; /* local NULL: who answers when ups fail; NULL: nobody */
    struct lr_str model_sent;
    struct lr_str dropped; /* members that a translation left out, comma-separated */
    bool bypass; /* through unread: outcome BYPASS */

    /* run */
    struct lr_reader reader;
    bool reading;
    struct lr_embed *embed; /* EMBEDDING only */

    /* send */
    struct lr_encoder *encoder; /* of a flight */
    bool written;               /* hit: its body is in out */
    struct lr_buf out; /* encoded, not yet sent */
    size_t out_at;
    struct lr_buf events;
    int head_status;
    struct lr_str head_lines;
    bool first_sent, replied, ended;
    struct lr_usage usage;

    /* the operator's door */
    struct lr_admin admin;

    /* error: any room */
    int err_status;
    const char *err_code; /* static */
    struct lr_err err;
    unsigned retry_after_s;
};

/* pipeline.c */
extern const struct lr_door_ops lr_pipeline_ops;
void lr_spares_free(struct lr_serve *);
/* Lets fn run in the worker pool as (the rest of) this room: its step is applied there, and so are the
 * rooms after it, up to send. Returns WAIT, which the room returns; on a worker already, runs fn. A full
 * pool is a 429. */
enum lr_step lr_req_work(struct lr_req *r, enum lr_step (*fn)(struct lr_req *));
/* Fills the error fields (first one wins); returns ERR. */
enum lr_step lr_req_fail(struct lr_req *r, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Parks the connection of a reader: the suspend callback of flights. */
void lr_req_suspend(struct lr_reader *);
void lr_req_wake(struct lr_reader *);

/* rooms */
enum lr_step lr_room_parse(struct lr_req *);  /* parse.c */
enum lr_step lr_room_key(struct lr_req *);    /* ask.c */
enum lr_step lr_room_answer(struct lr_req *); /* ask.c */
enum lr_step lr_room_route(struct lr_req *);  /* run.c */
enum lr_step lr_room_run(struct lr_req *);    /* run.c */
enum lr_step lr_room_send(struct lr_req *);   /* send.c */
void lr_room_begin(struct lr_req *);          /* parse.c: Host, Origin, sizes; fills err */
/* The bare key: of authorization (Bearer), x-api-key or api-key; empty when there is none. */
struct lr_str lr_req_credential(const struct lr_req *);

/* send.c: writes r->hit.doc in this client's dialect into r->out. On failure r is as before. */
int lr_hit_encode(struct lr_req *r);
/* embed.c: an EMBEDDING request is answered item by item. run: NEXT with a flight for what is unknown,
 * DONE with the whole answer in r->events. body: the upstream's request. merge: the flight's events in
 * r->events become the whole answer, and what is new is stored. free: at the end. */
enum lr_step lr_embed_run(struct lr_req *);
int lr_embed_body(struct lr_arena *a, const struct lr_req *r, struct lr_buf *out);
int lr_embed_merge(struct lr_req *r);
void lr_embed_free(struct lr_req *r);
/* Which inputs are not known: indexes, of the request's life. */
size_t lr_embed_wanted(const struct lr_req *r, const size_t **which);
/* run.c: enters a flight; the second half of the run room. */
enum lr_step lr_run_flight(struct lr_req *);

/* run.c: starts a flight behind r's back that renews the stale entry which r is being served. */
int lr_run_refresh(struct lr_req *r);

/* ---- producers (produce.c): what attempts and local answers share ---- */

/* keep.c: stores a finished answer, in the pool; takes log's memory. */
struct lr_keep_note {
    struct lr_doc_meta meta;
    uint64_t bytes_tenant_max;
    uint64_t entry_max;
    char id[LR_ID_LEN + 1];
};
void lr_keep_store(struct lr_serve *, const struct lr_keep_note *, struct lr_buf *log);

struct lr_producer {
    struct lr_serve *serve;
    struct lr_conf *conf;
    struct lr_flight *flight;
    struct lr_flight_opts calls; /* its callbacks */
    unsigned tries;              /* at this producer's, and at those that had the flight before */
    uint64_t tenant_id, start_ns;
    const struct lr_opt_price *price;
    struct lr_usage usage;
    bool head_done; /* the flight has a head */
    bool ended;     /* whole: END is due */
    bool broken;    /* an ERROR was pushed, or an event is missing: the answer is not to be kept */
    bool want_keep, keeping;
    struct lr_reader keep;
    struct lr_buf keep_log;
    struct lr_keep_note note;
};
/* Takes what it needs of r by copy. */
void lr_producer_init(struct lr_producer *, struct lr_req *r);
void lr_producer_free(struct lr_producer *);
/* The keep reader of a flight that lives on it alone (refresh): pass to lr_flight_enter. */
struct lr_reader *lr_producer_keep(struct lr_producer *);
/* `flight` has been begun. */
void lr_producer_begin(struct lr_producer *, struct lr_flight *flight);
/* `to` has the flight of `from` from now on, before any head; from, which was its own caller's all the
 * while, may be freed. LR_ECANCEL: nothing has changed. */
int lr_producer_pass(struct lr_producer *from, struct lr_producer *to);
/* An event of the answer: as lr_flight_push. END is held back for finish. */
int lr_producer_event(struct lr_producer *, const struct lr_event *ev);
int lr_producer_push(struct lr_producer *, const struct lr_event *ev);
/* Copies what was pushed into the keeper's own log, so that it never holds the flight up. */
void lr_producer_keep_up(struct lr_producer *);
/* The end, and the producer may be gone when it returns: stores, charges, lands the flight. */
void lr_producer_finish(struct lr_producer *);
void lr_producer_fail(struct lr_producer *, int status, const char *code, const char *msg);

/* ---- two producers of one flight ----
 *
 * An alias may name a model of this machine and upstreams. The one that is asked first holds the other,
 * prepared, until its head is out; where it has to give up before that, it passes the flight on. */

struct lr_attempt;
struct lr_local_run;
/* Takes `second`: who goes on when this one gives up. Before start. */
void lr_attempt_second(struct lr_attempt *, struct lr_local_run *second);
void lr_local_second(struct lr_local_run *, struct lr_attempt *second);
/* Takes what it will need of r. Failing, it is of no use and may be dropped. */
int lr_attempt_prepare(struct lr_attempt *, struct lr_req *r, struct lr_err *err);
int lr_local_prepare(struct lr_local_run *, struct lr_req *r, struct lr_err *err);
/* Takes the flight of `from` over and begins. LR_ECANCEL: it did not. */
int lr_attempt_take(struct lr_attempt *, struct lr_producer *from);
int lr_local_take(struct lr_local_run *, struct lr_producer *from);

/* ---- attempts (attempt.c): the producer of a flight at an upstream ---- */

/* A producer for r: takes what it needs of r by copy, so that it may outlive it. Fills opts with its
 * callbacks. LR_ENOMEM. */
int lr_attempt_new(struct lr_req *r, struct lr_flight_opts *opts, struct lr_attempt **out);
/* Never entered a flight of its own (it joined another's): free it. */
void lr_attempt_drop(struct lr_attempt *);
/* Builds the upstream's request from r and sends it; `flight` has been begun with its opts. On failure
 * the flight has been finished with an error event. */
void lr_attempt_start(struct lr_attempt *, struct lr_req *r, struct lr_flight *flight);
/* The keep reader of a flight that lives on it alone (refresh): pass to lr_flight_enter. */
struct lr_reader *lr_attempt_keep(struct lr_attempt *);

/* ---- local answers (local_run.c): the producer of a flight at a model of this machine ---- */

/* As for attempts; of r->local, or r->second. */
int lr_local_new(struct lr_req *r, struct lr_flight_opts *opts, struct lr_local_run **out);
void lr_local_drop(struct lr_local_run *);
struct lr_reader *lr_local_keep(struct lr_local_run *);
/* Renders, encodes, submits: milliseconds for a long prompt, so not on an event thread. On failure the
 * flight has been finished with an error event. */
void lr_local_start(struct lr_local_run *, struct lr_req *r, struct lr_flight *flight);

/* upstream.c: the request line, headers and body for one upstream; breaker and load. */
struct lr_up_request {
    char *url;
    const char **headers;
    size_t n_headers;
    struct lr_str body;
    enum lr_dialect_id dialect; /* NONE: passed through unread */
};
/* All memory from a. LR_EUNSUPPORTED: the translation refuses (err says what). */
int lr_up_build(struct lr_req *r, const struct lr_upstream *u, struct lr_arena *a,
                struct lr_up_request *out, struct lr_err *err);
/* The dialect in which u is asked when a client speaks d; NONE: it cannot be. */
enum lr_dialect_id lr_up_dialect(const struct lr_upstream *u, enum lr_dialect_id d);
/* May it be asked now (healthy, breaker closed or rested)? take: about to ask; false when another request
 * is the trial of a rested breaker already. */
bool lr_up_ready(const struct lr_upstream *u, uint64_t now_ns);
bool lr_up_take(const struct lr_upstream *u, uint64_t now_ns);
void lr_up_result(const struct lr_upstream *u, bool ok, uint64_t now_ns);
/* Response headers worth passing on, as "name: value\n" lines appended to out. */
int lr_up_headers(const struct lr_net_head *h, bool bypass, struct lr_buf *out);

/* Builds the raw shortcut's note for r, and reads it back. */
void lr_raw_remember(struct lr_req *r);
bool lr_raw_recall(struct lr_req *r);

/* replay.c: writes a stored answer; much faster when it has written it in this form before. */
struct lr_replays;
int lr_replays_open(struct lr_replays **out, uint64_t bytes_max);
void lr_replays_close(struct lr_replays *);
int lr_replay_write(struct lr_replays *, const struct lr_doc *, const struct lr_encoder_opts *,
                    struct lr_buf *out);

/* probe.c: health probes that are due. */
void lr_probe_tick(struct lr_serve *s, uint64_t now_ns);

/* guard.c: may this Host / Origin talk to us? */
bool lr_guard_host(const struct lr_conf *, struct lr_str host);
bool lr_guard_origin(const struct lr_conf *, struct lr_str origin, struct lr_str host);

/* admin.c: is the path the operator's? (GET /v1/models: see lr_models_own) */
bool lr_admin_path(struct lr_str path);
enum lr_step lr_admin_handle(struct lr_req *r); /* replies, or waits for a worker and is called again */

#endif
