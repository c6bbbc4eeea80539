/* Part of quickjs.c, by edits/bounded-text.toml. */

/* Longest name of a function that a frame shows, in UTF-16 units. With the engine's
 * own bound of 64 frames, a stack takes at most 64 KiB or so. */
#define CELLBLOCK_NAME_LENGTH 256

/* The first units of a string. What follows them is neither copied nor joined. */
JSValue cellblock_head(JSContext *ctx, JSValueConst string, uint32_t length)
{
    if (JS_VALUE_GET_TAG(string) == JS_TAG_STRING) {
        JSString *p = JS_VALUE_GET_STRING(string);
        return js_sub_string(ctx, p, 0, min_int(length, p->len));
    }
    if (JS_VALUE_GET_TAG(string) != JS_TAG_STRING_ROPE)
        return JS_UNDEFINED;
    JSStringRopeIter pieces;
    StringBuffer head;
    JSString *p;
    string_rope_iter_init(&pieces, string);
    string_buffer_init2(ctx, &head, 0, 0);
    while (length > 0 && (p = string_rope_iter_next(&pieces))) {
        uint32_t taken = min_int(length, p->len);
        string_buffer_concat(&head, p, 0, taken);
        length -= taken;
    }
    return string_buffer_end(&head);
}
