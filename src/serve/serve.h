/* SPDX-License-Identifier: Apache-2.0
 * serve/serve.h - the gateway: doors, pipeline, flights, upstreams, admin. What cli/ may know.
 */
#ifndef LR_SERVE_SERVE_H
#define LR_SERVE_SERVE_H

#include "base/base.h"

struct lr_serve;

struct lr_serve_opts {
    struct lr_config *config; /* taken: freed by the server, also on failure */
    const char *dir;          /* data directory; made 0700 */
    /* The process environment as read by cli/ (may be NULL). */
    const char *env_https_proxy, *env_http_proxy, *env_no_proxy, *env_ca_file;
    const char *(*getenv)(const char *name); /* for upstream key-env */
};

/* Opens everything and starts serving. err says what could not be had and where. */
int lr_serve_open(struct lr_serve **out, const struct lr_serve_opts *, struct lr_err *err);
/* Port of listen[i]. */
unsigned lr_serve_port(const struct lr_serve *, size_t i);
unsigned lr_serve_admin_port(const struct lr_serve *);
/* Port of resp[i]; 0: there is none. */
unsigned lr_serve_resp_port(const struct lr_serve *, size_t i);
/* Models of this machine: number i, false beyond the last. */
struct lr_serve_model {
    char name[64];
    bool builtin;
    uint64_t bytes_weights, bytes_scratch, bytes_kv, bytes_total; /* kv: at most */
    uint32_t context; /* tokens of a conversation */
};
bool lr_serve_model(const struct lr_serve *, size_t i, struct lr_serve_model *out);
/* The model inside the program: a GGUF file as bytes aligned to 64; empty when the build had none. */
struct lr_str lr_builtin_model(void);
/* Loads the configuration's plug-ins; lr_serve_open does so first of all. Once a process, before other
 * threads. The error names the file. */
int lr_serve_plugins(const struct lr_config *, struct lr_err *err);
/* For doctor, after the plug-ins: loads model i of the configuration (and those before it) and lets go
 * of it. LR_ENOENT: there is none; else why it cannot be served. */
int lr_serve_try_model(const struct lr_config *, size_t i, struct lr_serve_model *out,
                       struct lr_err *err);
/* Swaps in a new config (taken, also on failure); START rows keep their old values and are named in a
 * log line. Requests in progress end under the config they began with. */
int lr_serve_reload(struct lr_serve *, struct lr_config *, struct lr_err *err);
/* Drains (http.drain), stops, writes what is queued. */
void lr_serve_close(struct lr_serve *);

/* ---- client keys (keys.c), for `larder key` as well ---- */

/* The name of the admin key's file in the data directory; made at first start, mode 0600. */
#define LR_ADMIN_KEY_FILE "admin.key"

struct lr_key_row {
    char id[13];     /* 12 hex digits, public */
    char tenant[64]; /* name given to `larder key add` */
    char hash[65];   /* keyed BLAKE3 of the key, hex */
    uint64_t created_s, revoked_s; /* revoked 0 = valid */
};
/* Adds a key for a tenant to a keys file (made 0600 when absent): the secret, shown once, in secret. */
int lr_keys_add(const char *path, const char *tenant, uint64_t now_s, char secret[64], char id[13],
                struct lr_err *err);
/* Revokes by id. LR_ENOENT. */
int lr_keys_revoke(const char *path, const char *id, uint64_t now_s, struct lr_err *err);
/* All rows, in order; free with lr_free. */
int lr_keys_list(const char *path, struct lr_key_row **rows, size_t *n, struct lr_err *err);

#endif
