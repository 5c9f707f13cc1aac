/* SPDX-License-Identifier: Apache-2.0
 * serve/ui.c - the dashboard: three files of web/, bytes of this program (tools/embed.cmake).
 *
 * The page holds no data and needs no key; what it shows it asks of /larder/v1 with the operator's
 * session. Its policy allows nothing from elsewhere: no script, style, font or picture, and no
 * frame.
 */
#include "serve/serve_int.h"

void lr_verb_ui(struct lr_req *r)
{
    struct lr_str name = r->admin.arg;
    if (!name.n)
        name = LR_STR("index.html");
    for (size_t i = 0; i < lr_ui_files_n; i++)
        if (lr_str_is(name, lr_ui_files[i].path)) {
            r->admin.type = lr_ui_files[i].type;
            r->admin.csp = "default-src 'self'; base-uri 'none'; form-action 'self'; "
                           "frame-ancestors 'none'";
            lr_buf_add(&r->out, lr_ui_files[i].bytes, lr_ui_files[i].n);
            return;
        }
    lr_admin_fail(r, 404, "not_found", "the dashboard has no such file");
}
