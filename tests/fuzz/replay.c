/* SPDX-License-Identifier: Apache-2.0
 * fuzz/replay.c - runs a fuzz target over the files of its corpus, for compilers without libFuzzer.
 * Usage: fuzz_X DIR|FILE...   Fails when no input was found: an empty corpus proves nothing.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return 0;
    size_t n = 0, cap = 1 << 16;
    uint8_t *p = malloc(cap);
    for (size_t k; p && (k = fread(p + n, 1, cap - n, f)) > 0;) {
        n += k;
        if (n == cap)
            p = realloc(p, cap *= 2);
    }
    fclose(f);
    /* An exact copy, so that the sanitizer sees reads past the end. */
    uint8_t *exact = p ? malloc(n ? n : 1) : NULL;
    if (!exact) {
        free(p);
        return 0;
    }
    memcpy(exact, p, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    free(p);
    return 1;
}

int main(int argc, char **argv)
{
    int files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d) {
            files += run_file(argv[i]);
            continue;
        }
        for (struct dirent *e; (e = readdir(d));) {
            char path[4096];
            if (e->d_name[0] != '.' &&
                snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name) < (int)sizeof path)
                files += run_file(path);
        }
        closedir(d);
    }
    printf("%d inputs\n", files);
    return files ? 0 : 1;
}
