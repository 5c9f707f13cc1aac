/* SPDX-License-Identifier: Apache-2.0
 * embed/shipped.c - where the models that came with the program lie.
 *
 *   BIN/../share/larder/models     installed, wherever the tree was put
 *   BIN/../models                  a build inside the source tree
 *   LR_MODELS_DIR                  where the build was told to install
 *
 * Files, not bytes inside the program: twenty-odd megabytes that a package can bring, replace or
 * leave out by itself, and that nobody pays for who turns paraphrase off. The first place that has
 * the file is taken. Nothing is searched relative to the working directory: who may write there must
 * not choose our weights.
 */
#include "embed/embed_int.h"

#include <stdio.h>
#include <unistd.h>

#define PLACE_MAX 4096u

/* The directory of the program, without its slash; "" where nobody can tell. */
static void program_dir(char out[PLACE_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PLACE_MAX - 1);
    out[n > 0 ? n : 0] = 0;
    char *slash = strrchr(out, '/');
    if (slash)
        *slash = 0;
}

int lr_embed_shipped(const char *file, char *out, size_t cap)
{
    char dir[PLACE_MAX];
    static const char *const places[] = {"/../share/larder/models", "/../models"};
    program_dir(dir);
    for (size_t i = 0; i <= LR_COUNT(places); i++) {
        bool near = i < LR_COUNT(places);
        int n = near ? snprintf(out, cap, "%s%s/%s", dir, places[i], file)
                     : snprintf(out, cap, "%s/%s", LR_MODELS_DIR, file);
        if ((!near || dir[0]) && n > 0 && (size_t)n < cap && access(out, R_OK) == 0)
            return 0;
    }
    return LR_ENOENT;
}
