/* Part of quickjs.c, by edits/names.toml: V8's messages for what the compiler noted. */

/* What a note names. */
enum { NOTE_CALL, NOTE_NEW, NOTE_ITERATED, NOTE_UNPACKED, NOTE_DESTRUCTURED };

/* Begins the note of a pattern that is part of another. */
#define NOTE_NESTED 1


/* Throws an error with the text in a buffer, which is freed. */
static JSValue cellblock_throw(JSContext *ctx, JSErrorEnum kind, DynBuf *text)
{
    JSStackFrame *frame = ctx->rt->current_stack_frame;
    dbuf_putc(text, 0);
    if (dbuf_error(text)) {
        dbuf_free(text);
        return JS_ThrowOutOfMemory(ctx);
    }
    JSValue error = JS_MakeError2(ctx, kind, frame && !JS_GetFunctionBytecode(frame->cur_func),
                                  (const char *)text->buf);
    dbuf_free(text);
    return JS_Throw(ctx, JS_IsException(error) ? JS_NULL : error);
}

/* A value as V8 describes it where it has no name, such as `number 5`. */
static void cellblock_describe(JSContext *ctx, DynBuf *out, JSValueConst value)
{
    JSAtom type = js_operator_typeof(ctx, value);
    JSValue name = JS_AtomToString(ctx, type);
    cellblock_put_name(ctx, out, name);
    JS_FreeValue(ctx, name);
    if (JS_IsNull(value) || JS_IsBool(value) || JS_IsNumber(value)) {
        JSValue text = JS_ToString(ctx, value);
        dbuf_putc(out, ' ');
        cellblock_put_name(ctx, out, text);
        JS_FreeValue(ctx, text);
    } else if (JS_IsString(value)) {
        dbuf_putstr(out, " \"");
        cellblock_put_name(ctx, out, value);
        dbuf_putstr(out, "\"");
    }
}

/* Finds the note of a kind for the instruction that runs, if that is of the kind. */
static const uint8_t *cellblock_find_note(JSContext *ctx, int kind, int *length)
{
    JSStackFrame *frame = ctx->rt->current_stack_frame;
    JSFunctionBytecode *code = frame ? JS_GetFunctionBytecode(frame->cur_func) : NULL;
    if (!code || !code->notes || !frame->cur_pc)
        return NULL;
    uint32_t end = frame->cur_pc - code->byte_code_buf, at = 0;
    int op = -1, line, column;
    while (at < end) {
        op = code->byte_code_buf[at];
        at += short_opcode_info(op).size;
    }
    bool fits = at == end;
    switch (kind) {
    case NOTE_CALL:
        fits = fits && (op == OP_call || op == OP_tail_call || op == OP_call_method
            || op == OP_tail_call_method || op == OP_apply || op == OP_apply_eval
            || op == OP_eval || (op >= OP_call0 && op <= OP_call3));
        break;
    case NOTE_NEW:
        fits = fits && (op == OP_call_constructor || op == OP_apply);
        break;
    case NOTE_ITERATED:
    case NOTE_UNPACKED:
        fits = fits && (op == OP_for_of_start || op == OP_for_await_of_start || op == OP_append);
        break;
    default:
        fits = fits && op == OP_to_object;
    }
    if (!fits)
        return NULL;
    line = find_line_num(ctx, code, end - 1, &column);
    const uint8_t *note = code->notes, *notes_end = note + code->notes_len, *found = NULL;
    while (note + 11 <= notes_end) {
        int size = get_u16(note + 9);
        if (note[0] == kind && get_u32(note + 1) == line && get_u32(note + 5) == column) {
            *length = size;
            found = note + 11; /* the last one is the most precise */
        }
        note += 11 + size;
    }
    return found;
}

/* Throws for a value that cannot be called or constructed. */
static no_inline JSValue cellblock_not_callable(JSContext *ctx, JSValueConst value, bool is_new)
{
    DynBuf text;
    int length;
    const uint8_t *name = cellblock_find_note(ctx, is_new ? NOTE_NEW : NOTE_CALL, &length);
    js_dbuf_init(ctx, &text);
    if (name)
        dbuf_put(&text, name, length);
    else
        cellblock_describe(ctx, &text, value);
    dbuf_putstr(&text, is_new ? " is not a constructor" : " is not a function");
    return cellblock_throw(ctx, JS_TYPE_ERROR, &text);
}

/* Throws for a value that cannot be iterated. */
static no_inline JSValue cellblock_not_iterable(JSContext *ctx, JSValueConst value, bool is_async)
{
    DynBuf text;
    int length;
    const uint8_t *name = cellblock_find_note(ctx, NOTE_ITERATED, &length);
    if (!name) {
        /* Of the value of a pattern, V8 does not name a member that is not there. */
        name = cellblock_find_note(ctx, NOTE_UNPACKED, &length);
        if (name && (JS_IsUndefined(value) || JS_IsNull(value))
        &&  (memchr(name, '.', length) || memchr(name, '[', length)))
            name = NULL;
    }
    bool is_call = name && length > 5 && !memcmp(name + length - 5, "(...)", 5);
    js_dbuf_init(ctx, &text);
    if (is_call)
        length -= 5;
    if (name)
        dbuf_put(&text, name, length);
    else
        cellblock_describe(ctx, &text, value);
    if (is_call)
        dbuf_putstr(&text, " is not a function or its return value");
    dbuf_putstr(&text, is_async ? " is not async iterable" : " is not iterable");
    if (!name)
        dbuf_putstr(&text, " (cannot read property Symbol(Symbol.iterator))");
    return cellblock_throw(ctx, JS_TYPE_ERROR, &text);
}

/* Throws for a value that cannot be destructured; false when it can be. A note is the
 * property, a NUL, and the name of the value if it has one. */
static no_inline bool cellblock_not_destructurable(JSContext *ctx, JSValueConst value)
{
    DynBuf text;
    int length;
    if (!JS_IsUndefined(value) && !JS_IsNull(value))
        return false;
    const uint8_t *note = cellblock_find_note(ctx, NOTE_DESTRUCTURED, &length);
    if (!note)
        return false;
    const uint8_t *nul = memchr(note, 0, length);
    const char *type = JS_IsNull(value) ? "null" : "undefined";
    int property = nul ? nul - note : 0, name = nul ? length - property - 1 : 0;
    js_dbuf_init(ctx, &text);
    if (property > 1 && note[0] == NOTE_NESTED) {
        dbuf_printf(&text, "Cannot read properties of %s (reading '", type);
        dbuf_put(&text, note + 1, property - 1);
        dbuf_putstr(&text, "')");
        cellblock_throw(ctx, JS_TYPE_ERROR, &text);
        return true;
    }
    if (property > 0 && note[0] == NOTE_NESTED)
        property = 0;
    dbuf_putstr(&text, "Cannot destructure ");
    if (property > 0) {
        dbuf_putstr(&text, "property '");
        dbuf_put(&text, note, property);
        dbuf_putstr(&text, "' of ");
    }
    dbuf_putc(&text, '\'');
    if (name > 0)
        dbuf_put(&text, nul + 1, name);
    else
        cellblock_describe(ctx, &text, value);
    dbuf_printf(&text, "' as it is %s.", type);
    cellblock_throw(ctx, JS_TYPE_ERROR, &text);
    return true;
}
