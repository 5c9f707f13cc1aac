/* SPDX-License-Identifier: Apache-2.0
 * policy/list.c - the list of policies and codecs: a new one is one file and one row here.
 *
 *   built-in, in the order of help and of the conformance suite | what plug-ins brought
 *
 * Tables of plug-ins come from another compiler's idea of the header: their numbers are compared before
 * any field behind them is read, and what this engine does not do (reserved hooks, positions by slot)
 * is refused when the table is registered, not when it is first used.
 */
#include "policy/policy_int.h"

static const struct lr_policy *const built_in[] = {
    &lr_policy_full, &lr_policy_random, &lr_policy_streaming, &lr_policy_h2o,    &lr_policy_snapkv,
    &lr_policy_tova, &lr_policy_knorm,  &lr_policy_keydiff,   &lr_policy_oracle, &lr_policy_pyramid,
    &lr_policy_adakv, &lr_policy_topread,
};

static const struct lr_policy_codec *const built_in_codecs[] = {
    &lr_policy_codec_f16,
    &lr_policy_codec_q8,
    &lr_policy_codec_q4,
    &lr_policy_codec_saw_int4,
};

/* Written at start only (policy.h). */
static const struct lr_policy *added[LR_POLICY_PLUGINS_MAX];
static const struct lr_policy_codec *added_codecs[LR_POLICY_PLUGINS_MAX];
static size_t n_added, n_added_codecs;

const struct lr_policy *lr_policy_at(size_t i)
{
    if (i < LR_COUNT(built_in))
        return built_in[i];
    i -= LR_COUNT(built_in);
    return i < n_added ? added[i] : NULL;
}

const struct lr_policy_codec *lr_policy_codec_at(size_t i)
{
    if (i < LR_COUNT(built_in_codecs))
        return built_in_codecs[i];
    i -= LR_COUNT(built_in_codecs);
    return i < n_added_codecs ? added_codecs[i] : NULL;
}

const struct lr_policy *lr_policy_find(struct lr_str name)
{
    const struct lr_policy *p;
    for (size_t i = 0; (p = lr_policy_at(i)); i++)
        if (lr_str_is(name, p->name))
            return p;
    return NULL;
}

const struct lr_policy_codec *lr_policy_codec_find(struct lr_str name)
{
    const struct lr_policy_codec *c;
    for (size_t i = 0; (c = lr_policy_codec_at(i)); i++)
        if (lr_str_is(name, c->name))
            return c;
    return NULL;
}

/* ---- plug-ins ---- */

static bool good_name(const char *z)
{
    size_t n = z ? strnlen(z, LR_POLICY_NAME_MAX + 1) : 0;
    if (!n || n > LR_POLICY_NAME_MAX || z[0] < 'a' || z[0] > 'z')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!(z[i] >= 'a' && z[i] <= 'z') && !(z[i] >= '0' && z[i] <= '9') && z[i] != '-')
            return false;
    return true;
}

static int check_version(uint32_t abi, uint32_t size, size_t want, const char *what,
                         struct lr_err *err)
{
    if (abi != LR_POLICY_ABI)
        return lr_err_set(err, LR_EVERSION, "plug-in", "%s: made for ABI %u, this engine has %u", what,
                          abi, LR_POLICY_ABI);
    if (size != want)
        return lr_err_set(err, LR_EVERSION, "plug-in", "%s: %u bytes, this engine's has %zu", what,
                          size, want);
    return 0;
}

static int check_params(const struct lr_policy *p, struct lr_err *err)
{
    bool fits = p->n_params <= LR_POLICY_PARAMS_MAX && p->columns <= LR_POLICY_COLUMNS_MAX &&
                (!p->n_params || (p->params && p->param_size == sizeof *p->params));
    for (uint32_t i = 0; fits && i < p->n_params; i++)
        fits = good_name(p->params[i].name) && p->params[i].what;
    return fits ? 0
                : lr_err_set(err, LR_EINVAL, p->name, "its parameters or columns are none it may have");
}

static int check_policy(const struct lr_policy *p, struct lr_err *err)
{
    LR_TRY(check_version(p->abi, p->size, sizeof *p, "a policy's table", err));
    if (!good_name(p->name) || !p->what)
        return lr_err_set(err, LR_EINVAL, "plug-in",
                          "a policy's name is a-z, digits and '-', at most %u, and has a sentence",
                          LR_POLICY_NAME_MAX);
    if (p->share || p->step || p->stepped || p->tree)
        return lr_err_set(err, LR_EUNSUPPORTED, p->name,
                          "share, step, stepped and tree are reserved and must be NULL");
    if (p->rope != LR_POLICY_ROPE_ABS)
        return lr_err_set(err, LR_EUNSUPPORTED, p->name,
                          "keys are rotated by position; by slot or window is not done");
    if (!p->open != !p->close || !p->save != !p->load)
        return lr_err_set(err, LR_EINVAL, p->name, "open and close, save and load come in pairs");
    if (p->observe && !p->need)
        return lr_err_set(err, LR_EINVAL, p->name, "it observes and needs nothing");
    if ((p->flags & LR_POLICY_LOSSLESS) && p->edit)
        return lr_err_set(err, LR_EINVAL, p->name, "lossless, and has an edit");
    if (lr_policy_find(lr_strz(p->name)) || lr_policy_codec_find(lr_strz(p->name)))
        return lr_err_set(err, LR_EEXIST, p->name, "there is one of that name");
    return check_params(p, err);
}

static int check_codec(const struct lr_policy_codec *c, struct lr_err *err)
{
    LR_TRY(check_version(c->abi, c->size, sizeof *c, "a codec's table", err));
    if (!good_name(c->name) || strlen(c->name) > 15 || !c->what)
        return lr_err_set(err, LR_EINVAL, "plug-in",
                          "a codec's name is a-z, digits and '-', at most 15, and has a sentence");
    if (c->dot || c->group != 1)
        return lr_err_set(err, LR_EUNSUPPORTED, c->name,
                          "dot is reserved (NULL), and every row has its own scales (group 1)");
    if (lr_kern_type_find(lr_strz(c->k)) < 0 || lr_kern_type_find(lr_strz(c->v)) < 0)
        return lr_err_set(err, LR_EINVAL, c->name, "no rows of type %s or %s", c->k ? c->k : "NULL",
                          c->v ? c->v : "NULL");
    if (!c->enc_k != !c->dec_k || !c->enc_v != !c->dec_v)
        return lr_err_set(err, LR_EINVAL, c->name, "what is encoded needs a way back (dec)");
    if (lr_policy_find(lr_strz(c->name)) || lr_policy_codec_find(lr_strz(c->name)))
        return lr_err_set(err, LR_EEXIST, c->name, "there is one of that name");
    return 0;
}

/* Adds one by one, so that two of one name within a plug-in are noticed too. */
static int add_all(const struct lr_policy_plugin *p, struct lr_err *err)
{
    for (size_t i = 0; p->policies && p->policies[i]; i++) {
        LR_TRY(check_policy(p->policies[i], err));
        if (n_added == LR_POLICY_PLUGINS_MAX)
            return lr_err_set(err, LR_EOVER, "plug-in", "more than %u policies", LR_POLICY_PLUGINS_MAX);
        added[n_added++] = p->policies[i];
    }
    for (size_t i = 0; p->codecs && p->codecs[i]; i++) {
        LR_TRY(check_codec(p->codecs[i], err));
        if (n_added_codecs == LR_POLICY_PLUGINS_MAX)
            return lr_err_set(err, LR_EOVER, "plug-in", "more than %u codecs", LR_POLICY_PLUGINS_MAX);
        added_codecs[n_added_codecs++] = p->codecs[i];
    }
    return 0;
}

int lr_policy_register(const struct lr_policy_plugin *p, struct lr_err *err)
{
    size_t policies = n_added, codecs = n_added_codecs;
    if (!p)
        return lr_err_set(err, LR_EVERSION, "plug-in", "it has nothing for ABI %u", LR_POLICY_ABI);
    LR_TRY(check_version(p->abi, p->size, sizeof *p, "the plug-in's list", err));
    int rc = add_all(p, err);
    if (rc) {
        n_added = policies;
        n_added_codecs = codecs;
    }
    return rc;
}
