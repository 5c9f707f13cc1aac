/* SPDX-License-Identifier: Apache-2.0
 * base/log.c
 */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int level_max = LR_LOG_INFO;

void lr_log_set_level(enum lr_log_level level)
{
    atomic_store(&level_max, (int)level);
}

bool lr_log_on(enum lr_log_level level)
{
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

bool lr_log_due(atomic_uint_fast64_t *last, uint64_t every_ns)
{
    uint64_t now = lr_clock_mono_ns(), then = atomic_load(last);
    if (then && now - then < every_ns)
        return false;
    return atomic_compare_exchange_strong(last, &then, now);
}

void lr_log(enum lr_log_level level, const char *module, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if (!lr_log_on(level))
        return;
    char line[1024];
    uint64_t ms = lr_clock_wall_ms();
    time_t sec = (time_t)(ms / 1000);
    struct tm tm;
    if (!gmtime_r(&sec, &tm))
        return;
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    int k = snprintf(line + n, sizeof line - n, ".%03uZ %s %s ", (unsigned)(ms % 1000), names[level],
                     module);
    n += k > 0 ? (size_t)k : 0;
    va_list ap;
    va_start(ap, fmt);
    k = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    size_t room = sizeof line - n - 2;
    n += k < 0 ? 0 : (size_t)k < room ? (size_t)k : room;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F)
            line[i] = '?';
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* a log that cannot be written has nowhere to complain */
}
