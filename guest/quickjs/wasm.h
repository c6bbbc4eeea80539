/* Included before every C file of QuickJS (see guest/toolchain.env).
 *
 * rquickjs-sys builds for WebAssembly with `EMSCRIPTEN` defined, which turns
 * direct dispatch off, and `__wasi__` turns the stack check off, so runaway
 * recursion would be a raw trap. Neither is needed here. The libc headers come
 * first because they do depend on these names; after them, the names change:
 *   __DJGPP    keeps threads and atomics off, as EMSCRIPTEN did
 *   __GLIBC__  keeps malloc_usable_size on, so that memory is accounted for
 */
#include <assert.h>
#include <errno.h>
#include <fenv.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#undef EMSCRIPTEN
#undef __wasi__
#define __DJGPP 1
#define __GLIBC__ 2
