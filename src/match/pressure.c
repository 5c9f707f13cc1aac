/* SPDX-License-Identifier: Apache-2.0
 * match/pressure.c - rules of categories, and how load relaxes them.
 *
 *   load     = max(latency / its target, queue / its target), smoothed over time
 *
 *   level  1 |            ______      Up: from `enter` on, linearly to `full`.
 *            |           /            Down: the same line, but not to 0 before load is below
 * `leave`: |     _____/             between leave and enter it keeps a small level once raised. 0
 * |____|_____________ load leave enter  full
 *
 * The level lowers the least score of a category by up to `slack` and stretches its time to live by
 * up to `stretch`. It never touches max_error, which is a promise to the user: relaxed rules find
 * more candidates, and the learned bound still decides about them.
 *
 * Source: Category-Aware Semantic Caching (2510.26835), whose formula our specification gives from
 * memory (tau' = max(floor, tau - lambda delta), ttl' = ttl (1 + lambda (beta - 1))); the shape of
 * lambda and the hysteresis are ours.
 */
#include "match/match_int.h"

#include <math.h>

#define LEAST 0.05 /* level kept between leave and enter */

static double or (double v, double fallback)
{
    return v > 0 ? v : fallback;
}

double lr_pressure_update(struct lr_pressure *p, const struct lr_pressure_opts *o, double latency_s,
                          double queue, uint64_t now_ns)
{
    double load = 0, enter = or (o->enter, 1.2), leave = or (o->leave, 0.9), full = or (o->full, 2);
    if (o->latency_s > 0)
        load = latency_s / o->latency_s;
    if (o->queue > 0)
        load = fmax(load, queue / o->queue);
    double passed = p->at_ns && now_ns > p->at_ns ? (double)(now_ns - p->at_ns) / 1e9 : 0;
    double keep = p->at_ns ? exp2(-fmax(passed, 1e-3) / or (o->half_life_s, 10)) : 0;
    p->smooth = keep * p->smooth + (1 - keep) * load;
    p->at_ns = now_ns;
    if (p->smooth >= enter)
        p->raised = true;
    else if (p->smooth < leave)
        p->raised = false;
    double line = fmin(1, fmax(0, (p->smooth - enter) / (full - enter)));
    p->level = p->raised ? fmax(LEAST, line) : 0;
    return p->level;
}

void lr_rules_tighten(struct lr_rules *r, const struct lr_rules *by)
{
    r->max_error = fmin(r->max_error, by->max_error);
    r->min_score = fmax(r->min_score, by->min_score);
    r->ttl_ms = r->ttl_ms < by->ttl_ms ? r->ttl_ms : by->ttl_ms;
    r->store &= by->store;
    r->serve &= by->serve;
}

void lr_rules_relax(struct lr_rules *r, double level, double slack, double stretch)
{
    level = fmin(1, fmax(0, level));
    r->min_score = fmax(0, r->min_score - level * fmax(0, slack));
    double ttl = (double)r->ttl_ms * (1 + level * (fmax(1, stretch) - 1));
    r->ttl_ms = ttl < 9e18 ? (uint64_t)ttl : r->ttl_ms;
}

double lr_break_even(double look_s, double hit_s, double llm_s)
{
    double gain = llm_s + look_s - hit_s;
    return gain > look_s ? look_s / gain : 1;
}

bool lr_category_says(struct lr_str text, struct lr_str phrase)
{
    struct lr_cut a, b;
    if (lr_cut(text, &a) || lr_cut(phrase, &b) || !b.n)
        return false;
    for (size_t i = 0; i + b.n <= a.n; i++) {
        size_t k = 0;
        while (k < b.n && lr_str_eq(a.token[i + k].text, b.token[k].text))
            k++;
        if (k == b.n)
            return true;
    }
    return false;
}

int lr_category_nearest(const float *centroids, size_t n, size_t dim, const float *q, float floor)
{
    int best = -1;
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t k = 0; k < dim; k++)
            sum += centroids[i * dim + k] * q[k];
        if (sum >= floor && (best < 0 || sum > floor)) {
            floor = sum;
            best = (int)i;
        }
    }
    return best;
}
