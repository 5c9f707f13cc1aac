/* SPDX-License-Identifier: Apache-2.0
 * engine/host_plugin.c - plug-ins and codecs: tables of others made ours.
 *
 * A plug-in is a shared object with one exported function. It is loaded for good: its tables, and the code
 * of every instance, live in it. What it brings is checked by policy/list.c before anything is called.
 */
#include "engine/host_int.h"

#include <dlfcn.h>

typedef const struct lr_policy_plugin *entry_fn(uint32_t abi);

int lr_engine_plugin_load(const char *path, struct lr_err *err)
{
    /* A bare name would be looked for in the system's folders. */
    if (!strchr(path, '/'))
        return lr_err_set(err, LR_EINVAL, path, "the path of a plug-in has a '/': ./%s", path);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) {
        const char *why = dlerror();
        return lr_err_set(err, LR_EIO, path, "%s", why ? why : "cannot be loaded");
    }
    union { /* ISO C has no cast from data to code */
        void *data;
        entry_fn *code;
    } entry = {.data = dlsym(object, LR_POLICY_ENTRY)};
    int rc = entry.data ? lr_policy_register(entry.code(LR_POLICY_ABI), err)
                        : lr_err_set(err, LR_ENOENT, path, "no function %s in it", LR_POLICY_ENTRY);
    if (rc)
        dlclose(object);
    return rc;
}

/* Slot of a codec in the engine: where it is, or a free one. */
static size_t slot_of(const struct lr_engine *e, const struct lr_policy_codec *c)
{
    size_t i = 0;
    while (i < LR_COUNT(e->codecs) && e->codecs_from[i] && e->codecs_from[i] != c)
        i++;
    return i;
}

int lr_engine_host_codec(struct lr_engine *e, const struct lr_policy_codec *c,
                         const struct lr_engine_codec **out, struct lr_err *err)
{
    size_t i = slot_of(e, c);
    uint32_t d = e->m->shape.d_head;
    enum lr_kern_type k = (enum lr_kern_type)lr_kern_type_find(lr_strz(c->k));
    enum lr_kern_type v = (enum lr_kern_type)lr_kern_type_find(lr_strz(c->v));
    if (!lr_kern_row_bytes(k, d) || !lr_kern_row_bytes(v, d))
        return lr_err_set(err, LR_EUNSUPPORTED, "policy",
                          "codec %s needs heads of a multiple of %zu elements; this model's have %u",
                          c->name,
                          lr_kern_type_block(k) > lr_kern_type_block(v) ? lr_kern_type_block(k)
                                                                       : lr_kern_type_block(v),
                          d);
    if (i == LR_COUNT(e->codecs))
        return lr_err_set(err, LR_EOVER, "policy", "more than %zu codecs", i);
    e->codecs_from[i] = c;
    e->codecs[i] = (struct lr_engine_codec){.name = c->name, .k = k, .v = v, .enc_k = c->enc_k,
                                            .enc_v = c->enc_v, .qx = c->qx, .ox = c->ox,
                                            .dec_k = c->dec_k, .dec_v = c->dec_v};
    *out = &e->codecs[i];
    return 0;
}
