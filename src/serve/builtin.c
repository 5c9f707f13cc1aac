/* SPDX-License-Identifier: Apache-2.0
 * serve/builtin.c - the model inside the program: models/larder-mini.gguf as it was at build time.
 *
 * The assembler reads the file itself (.incbin): no generated source of five times its size, and
 * milliseconds to build. Aligned as tensors want it, read only, paged in when it is used. CMake defines
 * LR_BUILTIN_MODEL as the file's path when there is one.
 */
#include "serve/serve_int.h"

#ifdef LR_BUILTIN_MODEL
__asm__(".pushsection .rodata\n"
        ".balign 64\n"
        ".hidden lr_builtin_begin\n"
        ".globl lr_builtin_begin\n"
        "lr_builtin_begin:\n"
        ".incbin \"" LR_BUILTIN_MODEL "\"\n"
        ".hidden lr_builtin_end\n"
        ".globl lr_builtin_end\n"
        "lr_builtin_end:\n"
        ".popsection\n");
extern const char lr_builtin_begin[], lr_builtin_end[];

struct lr_str lr_builtin_model(void)
{
    return lr_str(lr_builtin_begin, (size_t)(lr_builtin_end - lr_builtin_begin));
}
#else
struct lr_str lr_builtin_model(void)
{
    return lr_str(NULL, 0);
}
#endif
