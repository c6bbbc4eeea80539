/* Part of quickjs.c, by edits/regexp-matches.toml: the last match of any expression, for
 * RegExp.$1 and the like. As in V8, the string it was found in is kept. */

/* The match and its first nine groups have their own numbers; then these. */
enum { CELLBLOCK_NOTED = 10, CELLBLOCK_LAST_PAREN = CELLBLOCK_NOTED, CELLBLOCK_LEFT, CELLBLOCK_RIGHT,
       CELLBLOCK_INPUT };

static struct {
    JSValue subject; /* what was matched, or undefined before any match */
    JSValue input;   /* what a program assigned since, or undefined */
    int count;       /* groups that are noted, the whole match among them */
    int spans[CELLBLOCK_NOTED + 1][2]; /* of what is numbered up to the last group */
} cellblock_match = { .subject = JS_UNDEFINED, .input = JS_UNDEFINED };

/* Keeps a match: positions in the string, as the regular expressions' engine has them. */
static void cellblock_note_match(JSContext *ctx, JSString *subject, uint8_t **capture, int count)
{
    JSValue before = cellblock_match.subject;
    const uint8_t *text = str8(subject);
    int shift = subject->is_wide_char;
    cellblock_match.count = min_int(count, CELLBLOCK_NOTED);
    for (int i = 0; i <= cellblock_match.count; i++) {
        int group = i < cellblock_match.count ? i : count - 1;
        int *span = cellblock_match.spans[i < cellblock_match.count ? i : CELLBLOCK_LAST_PAREN];
        span[0] = span[1] = 0;
        if (capture[2 * group] && capture[2 * group + 1]) {
            span[0] = (capture[2 * group] - text) >> shift;
            span[1] = (capture[2 * group + 1] - text) >> shift;
        }
    }
    cellblock_match.subject = js_dup(JS_MKPTR(JS_TAG_STRING, subject));
    JS_FreeValue(ctx, before);
    JS_FreeValue(ctx, cellblock_match.input);
    cellblock_match.input = JS_UNDEFINED;
}

/* Reads `RegExp.$1` and the like. */
static JSValue cellblock_get_match(JSContext *ctx, JSValueConst this_val, int magic)
{
    if (magic == CELLBLOCK_INPUT && !JS_IsUndefined(cellblock_match.input))
        return js_dup(cellblock_match.input);
    if (JS_IsUndefined(cellblock_match.subject))
        return js_empty_string(ctx->rt);
    JSString *subject = JS_VALUE_GET_STRING(cellblock_match.subject);
    const int *match = cellblock_match.spans[0];
    switch (magic) {
    case CELLBLOCK_INPUT:
        return js_dup(cellblock_match.subject);
    case CELLBLOCK_LEFT:
        return js_sub_string(ctx, subject, 0, match[0]);
    case CELLBLOCK_RIGHT:
        return js_sub_string(ctx, subject, match[1], subject->len);
    default:
        if (magic == CELLBLOCK_LAST_PAREN ? cellblock_match.count == 1 : magic >= cellblock_match.count)
            return js_empty_string(ctx->rt);
        return js_sub_string(ctx, subject, cellblock_match.spans[magic][0],
                             cellblock_match.spans[magic][1]);
    }
}

/* Assigns to them, which does nothing but for `RegExp.input`. */
static JSValue cellblock_set_match(JSContext *ctx, JSValueConst this_val, JSValueConst value, int magic)
{
    if (magic == CELLBLOCK_INPUT) {
        JSValue text = JS_ToString(ctx, value);
        if (JS_IsException(text))
            return text;
        JS_FreeValue(ctx, cellblock_match.input);
        cellblock_match.input = text;
    }
    return JS_UNDEFINED;
}
