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

/* Set when the engine has been refused memory; see engine.rs. Whatever fails then
 * throws an error with this text, or nothing that says so, and a script may catch
 * it; the flag stays. */
extern int cellblock_out_of_memory;

/* V8's wording for the errors that programs and models act on, where the
 * arguments allow it. The table stands here because it is the one way to change
 * a message before a script sees it without touching the package. */
static inline const char *cellblock_reword(const char *format)
{
    static const char *const wording[][2] = {
        { "circular reference", "Converting circular structure to JSON" },
        { "BigInt are forbidden in JSON.stringify", "Do not know how to serialize a BigInt" },
        { "invalid array length", "Invalid array length" },
        { "invalid string length", "Invalid string length" },
        { "cannot convert to object", "Cannot convert undefined or null to object" },
        { "%s is not initialized", "Cannot access '%s' before initialization" },
        { "promise self resolution", "Chaining cycle detected for promise #<Promise>" },
        { "return not in a function", "Illegal return statement" },
        { "unexpected token: '%.*s'", "Unexpected token '%.*s'" },
        { "unexpected token in expression: '%.*s'", "Unexpected token '%.*s'" },
        { "unexpected end of string", "Invalid or unexpected token" },
        { "unexpected end of regexp", "Invalid regular expression: missing /" },
        { "invalid number literal", "Invalid or unexpected token" },
        { "unexpected 'yield' keyword", "Unexpected strict mode reserved word" },
        { "invalid keyword: with", "Strict mode code may not include a with statement" },
        { "Octal literals are not allowed in strict mode", "Octal literals are not allowed in strict mode." },
        { "invalid variable name in strict mode", "Unexpected eval or arguments in strict mode" },
        { "property constructor appears more than once", "A class may only have one constructor" },
        { "new.target only allowed within functions", "new.target expression is not allowed here" },
        { "'super' is only valid in a method", "'super' keyword unexpected here" },
        { "super() is only valid in a derived class constructor", "'super' keyword unexpected here" },
        { "bad normalization form", "The normalization form should be one of NFC, NFD, NFKC, NFKD." },
        { "undefined private field '%s'", "Private field '%s' must be declared in an enclosing class" },
        { "expecting catch or finally", "Missing catch or finally after try" },
        { "invalid first character of private name", "Invalid or unexpected token" },
        { "unexpected 'await' keyword", "Unexpected reserved word" },
        { "missing initializer for variable", "Missing initializer in const declaration" },
        { "continue must be inside loop", "Illegal continue statement: no surrounding iteration statement" },
        { "break must be inside loop or switch", "Illegal break statement" },
        { "invalid lvalue in strict mode", "Unexpected eval or arguments in strict mode" },
        { "cannot delete a direct reference in strict mode", "Delete of an unqualified identifier in strict mode." },
        { "invalid left-hand side of expression", "Invalid left-hand side in assignment" },
        { "invalid assignment left-hand side", "Invalid left-hand side in assignment" },
        { "invalid regular expression flags", "Invalid regular expression flags" },
        { "cannot convert symbol to number", "Cannot convert a Symbol value to a number" },
        { "cannot convert symbol to string", "Cannot convert a Symbol value to a string" },
        { "expecting hex digit", "URI malformed" },
        { "expecting %%", "URI malformed" },
        { "malformed UTF-8", "URI malformed" },
        { "Date value is NaN", "Invalid time value" },
        { "BigInt division by zero", "Division by zero" },
        { "private class field '%s' does not exist", "Cannot read private member %s from an object whose class did not declare it" },
        { "bigint argument with unary +", "Cannot convert a BigInt value to a number" },
        { "BigInt negative exponent", "Exponent must be non-negative" },
        { "cannot invoke a running generator", "Generator is already running" },
        { "'this' can be initialized only once", "Super constructor may only be called once" },
        { "derived class constructor must return an object or undefined", "Derived constructors may only return object or undefined" },
        { "toPrimitive", "Cannot convert object to primitive value" },
        { "not a object", "CreateListFromArrayLike called on non-object" },
        { "not a Date object", "this is not a Date object." },
        { "invalid value used as WeakMap key", "Invalid value used as weak map key" },
        { "out of bound", "Offset is outside the bounds of the DataView" },
        { "invalid typed array index", "Invalid typed array index" },
        { "out-of-bound access", "Invalid atomic access index" },
        { "invalid array buffer length", "Array buffer allocation failed" },
        { "too many captures", "Too many captures" },
    };
    for (size_t i = 0; i < sizeof(wording) / sizeof(wording[0]); i++) {
        if (!strcmp(format, wording[i][0]))
            return wording[i][1];
    }
    return format;
}

static inline int cellblock_vsnprintf(char *text, size_t size, const char *format, va_list values)
{
    if (!strcmp(format, "out of memory"))
        cellblock_out_of_memory = 1;
    return vsnprintf(text, size, cellblock_reword(format), values);
}
#define vsnprintf cellblock_vsnprintf
