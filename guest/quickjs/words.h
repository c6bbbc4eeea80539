/* Part of quickjs.c, by edits/words.toml: V8's messages that name a value. */

static JSValue js_object_toString(JSContext *ctx, JSValueConst this_val, int argc, JSValueConst *argv);

/* The text of a function, cut to the length of a name. */
static void cellblock_put_source(JSContext *ctx, DynBuf *out, JSValueConst function)
{
    JSFunctionBytecode *code = JS_GetFunctionBytecode(function);
    if (code && code->source) {
        int length = min_int(code->source_len, CELLBLOCK_NAME_LENGTH);
        while (length > 0 && length < code->source_len && (code->source[length] & 0xC0) == 0x80)
            length--;
        dbuf_put(out, (const uint8_t *)code->source, length);
        return;
    }
    dbuf_putstr(out, "function ");
    cellblock_put_name(ctx, out, cellblock_member(ctx, function, JS_ATOM_name));
    dbuf_putstr(out, "() { [native code] }");
}

/* A value as V8 shows it in a message, without running anything of the program: `#<Point>`,
 * `[object Array]`, `5`. */
static void cellblock_put_value(JSContext *ctx, DynBuf *out, JSValueConst value)
{
    if (JS_IsFunction(ctx, value)) {
        cellblock_put_source(ctx, out, value);
        return;
    }
    if (!JS_IsObject(value)) {
        JSValue text = JS_UNDEFINED;
        if (JS_IsSymbol(value)) {
            dbuf_putstr(out, "Symbol(");
            text = JS_AtomToString(ctx, js_symbol_to_atom(ctx, value));
        } else {
            text = JS_ToString(ctx, value);
        }
        cellblock_put_name(ctx, out, text);
        JS_FreeValue(ctx, text);
        if (JS_IsSymbol(value))
            dbuf_putc(out, ')');
        return;
    }
    JSValueConst shown = cellblock_member(ctx, value, JS_ATOM_toString);
    JSValueConst tag = cellblock_member(ctx, value, JS_ATOM_Symbol_toStringTag);
    JSValueConst constructor = cellblock_member(ctx, value, JS_ATOM_constructor);
    JSValueConst name = cellblock_member(ctx, constructor, JS_ATOM_name);
    if (JS_IsCFunction(ctx, shown, (JSCFunction *)js_object_toString, 0)
    &&  JS_IsString(name) && !JS_IsEmptyString(name)) {
        dbuf_putstr(out, "#<");
        cellblock_put_name(ctx, out, name);
        dbuf_putc(out, '>');
        return;
    }
    dbuf_putstr(out, "[object ");
    if (JS_VALUE_GET_OBJ(value)->class_id == JS_CLASS_ARRAY)
        dbuf_putstr(out, "Array");
    else if (!cellblock_put_name(ctx, out, tag) && !cellblock_put_name(ctx, out, name))
        dbuf_putstr(out, "Object");
    dbuf_putc(out, ']');
}

/* The same as a string, for guest/src/intl/js.rs. */
JSValue cellblock_shown_value(JSContext *ctx, JSValueConst value)
{
    DynBuf out;
    js_dbuf_init(ctx, &out);
    cellblock_put_value(ctx, &out, value);
    JSValue text = JS_NewStringLen(ctx, (const char *)out.buf, out.size);
    dbuf_free(&out);
    return text;
}

/* The name of the built-in that runs, for messages. */
static void cellblock_put_function(JSContext *ctx, DynBuf *out)
{
    JSStackFrame *frame = ctx->rt->current_stack_frame;
    if (frame)
        cellblock_put_name(ctx, out, cellblock_member(ctx, frame->cur_func, JS_ATOM_name));
}

/* Throws an error with a text in which `%v` stands for a value, `%t` for its type, `%p` for
 * the name of a property, and `%f` for that of the built-in that runs. */
static no_inline JSValue cellblock_say(JSContext *ctx, JSErrorEnum kind, const char *format,
                                       JSValueConst value, JSAtom property)
{
    DynBuf text;
    JSValue part;
    js_dbuf_init(ctx, &text);
    for (; *format; format++) {
        if (*format != '%') {
            dbuf_putc(&text, *format);
            continue;
        }
        switch (*++format) {
        case 'v':
            cellblock_put_value(ctx, &text, value);
            break;
        case 't':
            dbuf_putstr(&text, JS_IsString(value) ? "string" : JS_IsFunction(ctx, value) ? "function"
                             : JS_IsNumber(value) ? "number" : JS_IsBool(value) ? "boolean"
                             : JS_IsSymbol(value) ? "symbol" : JS_IsBigInt(value) ? "bigint"
                             : "object");
            break;
        case 'p':
            part = JS_AtomGetKind(ctx, property) == JS_ATOM_KIND_SYMBOL
                ? JS_AtomToValue(ctx, property) : JS_AtomToString(ctx, property);
            cellblock_put_value(ctx, &text, part);
            JS_FreeValue(ctx, part);
            break;
        default:
            cellblock_put_function(ctx, &text);
        }
    }
    return cellblock_throw(ctx, kind, &text);
}

/* The same for what fails silently where the flags say so. */
static no_inline int cellblock_say_or_false(JSContext *ctx, int flags, const char *format,
                                            JSValueConst value, JSAtom property)
{
    if (!(flags & JS_PROP_THROW) && !((flags & JS_PROP_THROW_STRICT) && is_strict_mode(ctx)))
        return false;
    cellblock_say(ctx, JS_TYPE_ERROR, format, value, property);
    return -1;
}

/* Throws for an object that has not the private method of a class. */
static no_inline void cellblock_wrong_class(JSContext *ctx, JSValueConst function)
{
    JSObject *home = JS_VALUE_GET_OBJ(function)->u.func.home_object;
    JSValueConst holder = JS_MKPTR(JS_TAG_OBJECT, home);
    bool is_static = JS_IsFunction(ctx, holder);
    JSValueConst constructor = is_static ? holder : cellblock_member(ctx, holder, JS_ATOM_constructor);
    JSValueConst name = cellblock_member(ctx, constructor, JS_ATOM_name);
    DynBuf text;
    js_dbuf_init(ctx, &text);
    dbuf_putstr(&text, is_static ? "Receiver must be class " : "Receiver must be an instance of class ");
    if (!cellblock_put_name(ctx, &text, name))
        dbuf_putstr(&text, "anonymous");
    cellblock_throw(ctx, JS_TYPE_ERROR, &text);
}

/* Throws for a class that is called without `new`. */
static no_inline void cellblock_class_called(JSContext *ctx, JSValueConst class)
{
    JSValueConst name = cellblock_member(ctx, class, JS_ATOM_name);
    if (JS_IsString(name) && !JS_IsEmptyString(name))
        cellblock_say(ctx, JS_TYPE_ERROR, "Class constructor %v cannot be invoked without 'new'", name, 0);
    else
        cellblock_say(ctx, JS_TYPE_ERROR, "Class constructors cannot be invoked without 'new'", name, 0);
}

/* Throws for a built-in constructor that is called without `new`. */
static no_inline JSValue cellblock_needs_new(JSContext *ctx, JSValueConst constructor)
{
    JSValueConst name = cellblock_member(ctx, constructor, JS_ATOM_name);
    return cellblock_say(ctx, JS_TYPE_ERROR, "Constructor %v requires 'new'", name, 0);
}

/* Throws for a method of a built-in that is called on something else. */
static no_inline void cellblock_incompatible(JSContext *ctx, JSValueConst receiver, int class_id)
{
    JSAtom class = ctx->rt->class_array[class_id].class_name;
    cellblock_say(ctx, JS_TYPE_ERROR, "Method %p.prototype.%f called on incompatible receiver %v",
                  receiver, class);
}
