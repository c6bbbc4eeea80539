/* Part of quickjs.c, by edits/regexp-matches.toml: `replace` with a global expression that
 * the program has not changed. A text is put in as the matches are found. For a function,
 * which must not be called before all are found, their positions are kept. */

/* Whether an expression finds its matches as the language says, all of them, and steps
 * over an empty match as is asked. Runs nothing of the program. */
static bool cellblock_is_plain_regexp(JSContext *ctx, JSValueConst expression, bool is_unicode)
{
    JSRegExp *regexp = js_get_regexp(ctx, expression, false);
    if (!regexp)
        return false;
    int flags = lre_get_flags(str8(regexp->bytecode));
    return (flags & LRE_FLAG_GLOBAL)
        && is_unicode == ((flags & (LRE_FLAG_UNICODE | LRE_FLAG_UNICODE_SETS)) != 0)
        && JS_IsCFunction(ctx, cellblock_member(ctx, expression, JS_ATOM_exec), js_regexp_exec, 0);
}

/* A replacement while it is made. */
typedef struct {
    JSContext *ctx;
    JSString *subject;
    const uint8_t *code;   /* of the expression */
    int groups;            /* the whole match is one */
    JSValueConst function; /* that gives what is put in */
    JSValueConst text;     /* that is put in, or undefined when a function gives it */
    StringBuffer out;
    int copied;            /* of the subject */
} CellblockReplacement;

/* Group `at` of a match, or undefined. */
static JSValue cellblock_group(CellblockReplacement *r, const int32_t *spans, int at)
{
    if (spans[2 * at] < 0)
        return JS_UNDEFINED;
    return js_sub_string(r->ctx, r->subject, spans[2 * at], spans[2 * at + 1]);
}

/* The object of the groups that have names; undefined when none has. */
static JSValue cellblock_named_groups(CellblockReplacement *r, const int32_t *spans)
{
    const char *name = lre_get_groupnames(r->code);
    if (!name)
        return JS_UNDEFINED;
    JSValue named = JS_NewObjectProto(r->ctx, JS_NULL);
    for (int at = 1; at < r->groups && !JS_IsException(named); at++) {
        if (*name) {
            JSAtom atom = JS_NewAtom(r->ctx, name);
            JSValue value = cellblock_group(r, spans, at);
            /* of groups with one name, the one that took part */
            bool is_known = spans[2 * at] < 0 && JS_HasProperty(r->ctx, named, atom);
            if (atom == JS_ATOM_NULL || JS_IsException(value)
            ||  (!is_known && JS_DefinePropertyValue(r->ctx, named, atom, value, JS_PROP_C_W_E) < 0)) {
                JS_FreeValue(r->ctx, named);
                named = JS_EXCEPTION;
            }
            JS_FreeAtom(r->ctx, atom);
        }
        name += strlen(name) + LRE_GROUP_NAME_TRAILER_LEN;
    }
    return named;
}

/* What a text with `$` stands for at a match. */
static JSValue cellblock_substitution(CellblockReplacement *r, const int32_t *spans)
{
    JSContext *ctx = r->ctx;
    JSValue result = JS_EXCEPTION, match = JS_UNDEFINED, groups = JS_NewArray(ctx);
    JSValue named = cellblock_named_groups(r, spans);
    if (JS_IsException(groups) || JS_IsException(named))
        goto done;
    match = cellblock_group(r, spans, 0);
    if (JS_IsException(match))
        goto done;
    for (int at = 0; at < r->groups; at++) {
        JSValue group = cellblock_group(r, spans, at);
        if (JS_IsException(group)
        ||  JS_DefinePropertyValueUint32(ctx, groups, at, group, JS_PROP_C_W_E) < 0)
            goto done;
    }
    JSValueConst arguments[] = { match, JS_MKPTR(JS_TAG_STRING, r->subject), js_int32(spans[0]),
                                 groups, named, r->text };
    result = js_string___GetSubstitution(ctx, JS_UNDEFINED, countof(arguments), arguments);
done:
    JS_FreeValue(ctx, match);
    JS_FreeValue(ctx, groups);
    JS_FreeValue(ctx, named);
    return result;
}

/* What the function gives for a match. */
static JSValue cellblock_called(CellblockReplacement *r, const int32_t *spans)
{
    JSContext *ctx = r->ctx;
    JSValue result = JS_EXCEPTION;
    JSValue *arguments = js_malloc(ctx, sizeof(*arguments) * (r->groups + 3));
    int count = 0;
    if (!arguments)
        return JS_EXCEPTION;
    while (count < r->groups) {
        JSValue group = cellblock_group(r, spans, count);
        if (JS_IsException(group))
            goto done;
        arguments[count++] = group;
    }
    arguments[count++] = js_int32(spans[0]);
    arguments[count++] = js_dup(JS_MKPTR(JS_TAG_STRING, r->subject));
    JSValue named = cellblock_named_groups(r, spans);
    if (JS_IsException(named))
        goto done;
    if (!JS_IsUndefined(named))
        arguments[count++] = named;
    result = JS_ToStringFree(ctx, JS_Call(ctx, r->function, JS_UNDEFINED, count, vc(arguments)));
done:
    while (count > 0)
        JS_FreeValue(ctx, arguments[--count]);
    js_free(ctx, arguments);
    return result;
}

/* Puts in what stands for one match; takes it over. False when that failed. */
static bool cellblock_put_in(CellblockReplacement *r, const int32_t *spans, JSValue value)
{
    if (JS_IsException(value))
        return false;
    if (spans[0] >= r->copied) {
        string_buffer_concat(&r->out, r->subject, r->copied, spans[0]);
        string_buffer_concat_value(&r->out, value);
        r->copied = spans[1];
    }
    JS_FreeValue(r->ctx, value);
    return !r->out.error_status;
}

/* Finds the next match from a place on: 1 when there is one, 0 when not, -1 when that failed. */
static int cellblock_find(CellblockReplacement *r, uint8_t **capture, int at)
{
    if (at > r->subject->len)
        return 0;
    int found = lre_exec(capture, r->code, str8(r->subject), at, r->subject->len,
                         r->subject->is_wide_char, r->ctx);
    if (found == LRE_RET_TIMEOUT)
        JS_ThrowInterrupted(r->ctx);
    else if (found < 0)
        JS_ThrowOutOfMemory(r->ctx);
    else if (js_poll_interrupts(r->ctx))
        return -1;
    return found < 0 ? -1 : found;
}

/* Replaces every match; `text` is undefined when `function` gives what is put in. The
 * place from which the expression looks, its `lastIndex`, is 0 before and after. */
static JSValue cellblock_replace_all(JSContext *ctx, JSValueConst expression, JSString *subject,
                                     JSValueConst function, JSValueConst text)
{
    /* a function can give the expression other code */
    JSValue code = js_dup(JS_MKPTR(JS_TAG_STRING, js_get_regexp(ctx, expression, false)->bytecode));
    CellblockReplacement r = { ctx, subject, str8(JS_VALUE_GET_STRING(code)) };
    bool is_called = JS_IsUndefined(text);
    bool has_dollar = !is_called && string_indexof_char(JS_VALUE_GET_STRING(text), '$', 0) >= 0;
    bool is_unicode = lre_get_flags(r.code) & (LRE_FLAG_UNICODE | LRE_FLAG_UNICODE_SETS);
    int shift = subject->is_wide_char, slots = lre_get_alloc_count(r.code), at = 0, found;
    JSValue result = JS_EXCEPTION;
    DynBuf kept;
    js_dbuf_init(ctx, &kept);
    string_buffer_init(ctx, &r.out, 0);
    r.groups = lre_get_capture_count(r.code);
    r.function = function;
    r.text = text;
    /* this match, the last one, and this one's positions */
    uint8_t **captures = js_malloc(ctx, 2 * slots * sizeof(*captures));
    int32_t *spans = js_malloc(ctx, 2 * r.groups * sizeof(*spans));
    uint8_t **now = captures, **last = NULL;
    if (!captures || !spans)
        goto done;
    while ((found = cellblock_find(&r, now, at)) > 0) {
        for (int i = 0; i < r.groups; i++) {
            bool is_there = now[2 * i] && now[2 * i + 1];
            spans[2 * i] = is_there ? (now[2 * i] - str8(subject)) >> shift : -1;
            spans[2 * i + 1] = is_there ? (now[2 * i + 1] - str8(subject)) >> shift : -1;
        }
        last = now;
        now = last == captures ? captures + slots : captures;
        if (is_called) {
            if (dbuf_put(&kept, (const uint8_t *)spans, 2 * r.groups * sizeof(*spans))) {
                JS_ThrowOutOfMemory(ctx);
                goto done;
            }
        } else if (!cellblock_put_in(&r, spans, has_dollar ? cellblock_substitution(&r, spans)
                                                           : js_dup(text))) {
            goto done;
        }
        at = spans[1];
        if (spans[0] == spans[1])
            at = string_advance_index(subject, at, is_unicode);
    }
    if (found < 0)
        goto done;
    if (!last) {
        result = js_dup(JS_MKPTR(JS_TAG_STRING, subject));
        goto done;
    }
    cellblock_note_match(ctx, subject, last, r.groups);
    for (size_t i = 0; i < kept.size; i += 2 * r.groups * sizeof(*spans)) {
        const int32_t *match = (const int32_t *)(kept.buf + i);
        if (!cellblock_put_in(&r, match, cellblock_called(&r, match)))
            goto done;
    }
    string_buffer_concat(&r.out, subject, r.copied, subject->len);
    result = string_buffer_end(&r.out);
done:
    string_buffer_free(&r.out);
    dbuf_free(&kept);
    js_free(ctx, spans);
    js_free(ctx, captures);
    JS_FreeValue(ctx, code);
    return result;
}
