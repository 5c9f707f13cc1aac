/* SPDX-License-Identifier: Apache-2.0
 * eval/plot.c - a plot as inline SVG: lines with dots and whiskers, axes, grid, a key beside it.
 *
 *   +---- WIDTH ------------------------+
 *   | title                             |
 *   | y |  ..........................   | name
 *   |   |__________________________     | name
 *   |        x (linear or log)          |
 *
 * Colours are classes (s0 .. s11) that the page's style defines for light and dark; series beyond
 * the twelfth take the same colours with dashes. Every dot has a <title>: the browser shows its
 * numbers. The same numbers stand in the tables, so nothing is told by colour alone.
 */
#include "eval/eval_int.h"

#include <math.h>
#include <stdio.h>

#define WIDTH   860.0
#define HEIGHT  380.0
#define LEFT    64.0
#define RIGHT   240.0 /* the key */
#define TOP     34.0
#define BOTTOM  48.0
#define COLOURS 12u

struct scale {
    double x0, x1, y0, y1; /* values at the edges; x in log10 where it is */
    bool log_x;
};

int lr_eval_escape(struct lr_str s, struct lr_buf *out)
{
    for (size_t i = 0; i < s.n; i++)
        switch (s.p[i]) {
        case '<':
            lr_buf_addz(out, "&lt;");
            break;
        case '>':
            lr_buf_addz(out, "&gt;");
            break;
        case '&':
            lr_buf_addz(out, "&amp;");
            break;
        case '"':
            lr_buf_addz(out, "&quot;");
            break;
        default:
            lr_buf_addc(out, s.p[i]);
        }
    return out->rc;
}

static double place_x(const struct scale *s, double x)
{
    double v = s->log_x ? log10(x > 0 ? x : 1e-300) : x;
    return LEFT + (v - s->x0) / (s->x1 - s->x0) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct scale *s, double y)
{
    double v = y < s->y0 ? s->y0 : y > s->y1 ? s->y1 : y;
    return HEIGHT - BOTTOM - (v - s->y0) / (s->y1 - s->y0) * (HEIGHT - TOP - BOTTOM);
}

static void widen(double *low, double *high, double by)
{
    double d = (*high - *low) * by;
    if (d <= 0)
        d = fabs(*high) > 0 ? fabs(*high) * 0.1 : 1;
    *low -= d;
    *high += d;
}

static struct scale fit(const struct eval_plot *p)
{
    struct scale s = {HUGE_VAL, -HUGE_VAL, HUGE_VAL, -HUGE_VAL, p->log_x};
    for (size_t i = 0; i < p->n; i++)
        for (size_t k = 0; k < p->line[i].n; k++) {
            const struct eval_dot *d = &p->line[i].dot[k];
            double x = p->log_x ? log10(d->x > 0 ? d->x : 1e-300) : d->x;
            s.x0 = fmin(s.x0, x);
            s.x1 = fmax(s.x1, x);
            s.y0 = fmin(s.y0, fmin(d->y, d->low));
            s.y1 = fmax(s.y1, fmax(d->y, d->high));
        }
    if (s.x0 > s.x1)
        s = (struct scale){0, 1, 0, 1, false};
    widen(&s.x0, &s.x1, 0.05);
    if (p->y_max > p->y_min) {
        s.y0 = p->y_min;
        s.y1 = p->y_max;
    } else {
        widen(&s.y0, &s.y1, 0.06);
    }
    return s;
}

/* 1, 2 or 5 times a power of ten: some five steps. */
static double nice_step(double span)
{
    double raw = span / 5, ten = pow(10, floor(log10(raw))), f = raw / ten;
    return ten * (f < 1.5 ? 1 : f < 3.5 ? 2 : f < 7.5 ? 5 : 10);
}

static void axis_y(const struct scale *s, struct lr_buf *out)
{
    double step = nice_step(s->y1 - s->y0);
    for (double y = ceil(s->y0 / step) * step; y <= s->y1 + step * 1e-6; y += step) {
        double at = place_y(s, y);
        lr_buf_addf(out,
                    "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                    "<text class=\"t e\" x=\"%.1f\" y=\"%.1f\">%g</text>\n",
                    LEFT, WIDTH - RIGHT, at, at, LEFT - 8, at + 4, fabs(y) < step * 1e-6 ? 0 : y);
    }
}

static void tick_x(const struct scale *s, double x, struct lr_buf *out)
{
    static const char marks[] = " KMGT";
    size_t k = 0;
    double at = place_x(s, x), shown = x;
    if (at < LEFT - 0.5 || at > WIDTH - RIGHT + 0.5)
        return;
    for (; shown >= 1024 && k < 4; k++)
        shown /= 1024;
    lr_buf_addf(out,
                "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                "<text class=\"t m\" x=\"%.1f\" y=\"%.1f\">%g%.*s</text>\n",
                at, at, TOP, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 18, shown, k > 0, marks + k);
}

static void axis_x(const struct scale *s, struct lr_buf *out)
{
    if (s->log_x) { /* powers of two */
        int from = (int)ceil(s->x0 / log10(2)), to = (int)floor(s->x1 / log10(2));
        int step = (to - from) / 8 + 1;
        for (int i = from; i <= to; i += step)
            tick_x(s, pow(2, i), out);
        return;
    }
    double step = nice_step(s->x1 - s->x0);
    for (double x = ceil(s->x0 / step) * step; x <= s->x1; x += step)
        tick_x(s, x, out);
}

static void one_line(const struct eval_line *l, const struct scale *s, struct lr_buf *out)
{
    uint32_t colour = l->colour % COLOURS;
    if (l->n > 1) {
        lr_buf_addf(out, "<polyline class=\"l s%u%s\" points=\"", colour,
                    l->colour >= COLOURS ? " d" : "");
        for (size_t i = 0; i < l->n; i++)
            lr_buf_addf(out, "%.1f,%.1f ", place_x(s, l->dot[i].x), place_y(s, l->dot[i].y));
        lr_buf_addz(out, "\"/>\n");
    }
    for (size_t i = 0; i < l->n; i++) {
        const struct eval_dot *d = &l->dot[i];
        double x = place_x(s, d->x);
        if (d->high > d->low)
            lr_buf_addf(out,
                        "<line class=\"w s%u\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                        colour, x, x, place_y(s, d->low), place_y(s, d->high));
        lr_buf_addf(out, "<circle class=\"p s%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>", colour,
                    x, place_y(s, d->y));
        lr_eval_escape(lr_strz(l->name), out);
        lr_buf_addc(out, ' ');
        lr_eval_escape(lr_strz(d->label), out);
        lr_buf_addz(out, "</title></circle>\n");
    }
}

static void key(const struct eval_plot *p, struct lr_buf *out)
{
    double y = TOP + 8;
    for (size_t i = 0; i < p->n && y < HEIGHT - 8; i++, y += 19) {
        uint32_t colour = p->line[i].colour % COLOURS;
        lr_buf_addf(out,
                    "<line class=\"l s%u%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                    "<circle class=\"p s%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>"
                    "<text class=\"t\" x=\"%.1f\" y=\"%.1f\">",
                    colour, p->line[i].colour >= COLOURS ? " d" : "", WIDTH - RIGHT + 18,
                    WIDTH - RIGHT + 42, y, y, colour, WIDTH - RIGHT + 30, y, WIDTH - RIGHT + 50,
                    y + 4);
        lr_eval_escape(lr_strz(p->line[i].name), out);
        lr_buf_addz(out, "</text>\n");
    }
}

int lr_eval_plot(const struct eval_plot *p, struct lr_buf *out)
{
    struct scale s = fit(p);
    lr_buf_addf(out,
                "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
                "xmlns=\"http://www.w3.org/2000/svg\">\n<title>",
                WIDTH, HEIGHT);
    lr_eval_escape(lr_strz(p->title), out);
    lr_buf_addf(out, "</title>\n<text class=\"h\" x=\"%.1f\" y=\"18\">", LEFT);
    lr_eval_escape(lr_strz(p->title), out);
    lr_buf_addz(out, "</text>\n");
    axis_y(&s, out);
    axis_x(&s, out);
    lr_buf_addf(out, "<text class=\"t m\" x=\"%.1f\" y=\"%.1f\">", (LEFT + WIDTH - RIGHT) / 2,
                HEIGHT - 8);
    lr_eval_escape(lr_strz(p->x), out);
    lr_buf_addf(out, "</text>\n<text class=\"t m\" transform=\"translate(14 %.1f) rotate(-90)\">",
                (TOP + HEIGHT - BOTTOM) / 2);
    lr_eval_escape(lr_strz(p->y), out);
    lr_buf_addz(out, "</text>\n");
    for (size_t i = p->n; i-- > 0;) /* the first on top */
        one_line(&p->line[i], &s, out);
    key(p, out);
    lr_buf_addz(out, "</svg>\n");
    return out->rc;
}
