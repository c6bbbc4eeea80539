/* Part of quickjs.c, by edits/stacks.toml.
 *
 * An error's [[ErrorData]] holds the tail of its stack: the message as it was when the
 * error was made, then the frames. The property `stack` is made of it when it is first
 * read. Nothing here runs the program's code: members are looked up as plain data. */

/* Longest name or message that is put into a stack, in UTF-16 units. */
#define CELLBLOCK_TEXT_LENGTH 65536

/* Mark the property that is made when it is first read, and that which then throws. */
static char cellblock_lazy_stack, cellblock_failed_stack;

static int JS_DefineAutoInitProperty(JSContext *ctx, JSValueConst this_obj, JSAtom prop,
                                     JSAutoInitIDEnum id, void *opaque, int flags);

static int JS_AutoInitProperty(JSContext *ctx, JSObject *p, JSAtom prop, JSProperty *pr,
                               JSShapeProperty *prs);

/* A member that is plain data, of an object or of what it inherits from. */
static JSValueConst cellblock_member(JSContext *ctx, JSValueConst object, JSAtom name)
{
    if (!JS_IsObject(object))
        return JS_UNDEFINED;
    for (JSObject *p = JS_VALUE_GET_OBJ(object); p; p = p->shape->proto) {
        JSProperty *property;
        JSShapeProperty *shape = find_own_property(&property, p, name);
        if (p->class_id == JS_CLASS_PROXY)
            break;
        if (shape && (shape->flags & JS_PROP_TMASK) == JS_PROP_AUTOINIT && name != JS_ATOM_stack) {
            if (JS_AutoInitProperty(ctx, p, name, property, shape)) {
                JS_FreeValue(ctx, JS_GetException(ctx));
                break;
            }
            shape = find_own_property(&property, p, name);
        }
        if (shape)
            return (shape->flags & JS_PROP_TMASK) == JS_PROP_NORMAL ? property->u.value : JS_UNDEFINED;
    }
    return JS_UNDEFINED;
}

/* Whether an object has an own stack that is not the lazy one. */
static bool cellblock_has_other_stack(JSObject *p)
{
    JSProperty *property;
    JSShapeProperty *shape = find_own_property(&property, p, JS_ATOM_stack);
    return shape && (shape->flags & JS_PROP_TMASK) != JS_PROP_AUTOINIT;
}

/* Gives a new error its lazy stack. */
static void cellblock_lazy_own_stack(JSContext *ctx, JSValueConst error)
{
    JS_DefineAutoInitProperty(ctx, error, JS_ATOM_stack, JS_AUTOINIT_ID_BYTECODE,
                              &cellblock_lazy_stack, JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE);
}

/* Keeps what the program's Error.prepareStackTrace threw, for the first that reads the
 * stack; false when the error has no lazy stack. */
static bool cellblock_keep_failure(JSContext *ctx, JSValueConst error)
{
    JSProperty *property;
    JSValue thrown = JS_GetException(ctx);
    JSObject *p = JS_IsObject(error) ? JS_VALUE_GET_OBJ(error) : NULL;
    JSShapeProperty *shape = p ? find_own_property(&property, p, JS_ATOM_stack) : NULL;
    if (!shape || p->class_id != JS_CLASS_ERROR || (shape->flags & JS_PROP_TMASK) != JS_PROP_AUTOINIT) {
        JS_FreeValue(ctx, thrown);
        return false;
    }
    property->u.init.opaque = &cellblock_failed_stack;
    set_value(ctx, &p->u.object_data, thrown);
    return true;
}

/* Gives an object a stack that is there already; takes the value over. */
static void cellblock_own_stack(JSContext *ctx, JSValueConst object, JSValue stack)
{
    if (JS_IsException(stack))
        stack = JS_UNDEFINED;
    if (JS_DefinePropertyValue(ctx, object, JS_ATOM_stack, stack,
                               JS_PROP_WRITABLE | JS_PROP_CONFIGURABLE) < 0)
        JS_FreeValue(ctx, JS_GetException(ctx));
}

/* The message of an error and its frames, which are taken over. */
static JSValue cellblock_tail(JSContext *ctx, JSValueConst error, JSValue frames)
{
    JSValueConst message = cellblock_member(ctx, error, JS_ATOM_message);
    JSValue text = js_empty_string(ctx->rt);
    if (JS_IsString(message))
        text = cellblock_head(ctx, message, CELLBLOCK_TEXT_LENGTH);
    if (JS_IsException(text))
        text = JS_NULL;
    if (JS_IsString(frames) && !JS_IsEmptyString(frames)) {
        frames = JS_ConcatString3(ctx, "\n", frames, "");
        text = JS_ConcatString(ctx, text, frames);
    } else {
        JS_FreeValue(ctx, frames);
    }
    return JS_IsException(text) ? JS_NULL : text;
}

/* `Name: message` and the frames, of an error's tail. */
static JSValue cellblock_text(JSContext *ctx, JSValueConst error, JSValueConst tail)
{
    if (!JS_IsString(tail))
        return js_dup(tail);
    /* As in V8, a getter is called. One that fails leaves the default; one that met a
     * limit, or called exit(), has marked the program as stopped. */
    JSValue name = JS_GetProperty(ctx, error, JS_ATOM_name);
    if (JS_IsException(name))
        JS_FreeValue(ctx, JS_GetException(ctx));
    JSValue head = JS_IsString(name)
        ? cellblock_head(ctx, name, CELLBLOCK_TEXT_LENGTH)
        : JS_NewString(ctx, "Error");
    JS_FreeValue(ctx, name);
    bool separate = !JS_IsEmptyString(head) && !JS_IsEmptyString(tail);
    if (separate) {
        JSValue first = cellblock_head(ctx, tail, 1);
        const char *text = JS_ToCString(ctx, first);
        separate = text && text[0] != '\n';
        JS_FreeCString(ctx, text);
        JS_FreeValue(ctx, first);
    }
    if (separate)
        head = JS_ConcatString3(ctx, "", head, ": ");
    return JS_ConcatString(ctx, head, js_dup(tail));
}

/* Whether a syntax error's place in a file is shown: not in evaluated text, as in V8,
 * nor in the engine's own pieces. */
static bool cellblock_shown(const char *file)
{
    return file[0] != '<' && strncmp(file, "eval at ", 8);
}

/* Room for the name of a piece of evaluated text. */
#define CELLBLOCK_EVAL_LENGTH 256

/* Names a piece of evaluated text after the place of its evaluation. */
static void cellblock_eval_file(JSContext *ctx, char *file)
{
    JSStackFrame *frame = ctx->rt->current_stack_frame;
    JSFunctionBytecode *code = NULL;
    for (; frame && !code; frame = code ? frame : frame->prev_frame) {
        JSObject *p = JS_VALUE_GET_OBJ(frame->cur_func);
        if (js_class_has_bytecode(p->class_id) && frame->cur_pc)
            code = p->u.func.function_bytecode;
    }
    if (!code) {
        snprintf(file, CELLBLOCK_EVAL_LENGTH, "eval at <anonymous>, <anonymous>");
        return;
    }
    int column, line = find_line_num(ctx, code, frame->cur_pc - code->byte_code_buf - 1, &column);
    const char *outer = code->filename ? JS_AtomToCString(ctx, code->filename) : NULL;
    const char *name = get_func_name(ctx, frame->cur_func);
    snprintf(file, CELLBLOCK_EVAL_LENGTH, "eval at %.64s (%.120s:%d:%d), <anonymous>",
             name && name[0] ? name : "<anonymous>", outer ? outer : "", line, column);
    JS_FreeCString(ctx, name);
    JS_FreeCString(ctx, outer);
}

/* Evaluates a piece of text. Not inlined: every call of the interpreter, which evaluates
 * text as well, would have the name on its stack. */
static no_inline JSValue cellblock_eval(JSContext *ctx, JSValueConst this_obj, const char *text,
                                        size_t length, int flags, int scope)
{
    char file[CELLBLOCK_EVAL_LENGTH];
    cellblock_eval_file(ctx, file);
    return JS_EvalInternal(ctx, this_obj, text, length, file, 1, flags, scope);
}

/* Puts a string into a buffer, cut to the length of a name; false when there is none. */
static bool cellblock_put_name(JSContext *ctx, DynBuf *out, JSValueConst name)
{
    if (!JS_IsString(name) || JS_IsEmptyString(name))
        return false;
    JSValue head = cellblock_head(ctx, name, CELLBLOCK_NAME_LENGTH);
    const char *text = JS_ToCString(ctx, head);
    if (text)
        dbuf_putstr(out, text);
    JS_FreeCString(ctx, text);
    JS_FreeValue(ctx, head);
    return true;
}

/* What V8 calls the type of a receiver. */
static JSValueConst cellblock_type(JSContext *ctx, JSValueConst receiver)
{
    JSValueConst constructor;
    if (JS_IsString(receiver))
        constructor = cellblock_member(ctx, ctx->class_proto[JS_CLASS_STRING], JS_ATOM_constructor);
    else if (JS_IsNumber(receiver))
        constructor = cellblock_member(ctx, ctx->class_proto[JS_CLASS_NUMBER], JS_ATOM_constructor);
    else if (JS_IsBool(receiver))
        constructor = cellblock_member(ctx, ctx->class_proto[JS_CLASS_BOOLEAN], JS_ATOM_constructor);
    else if (JS_IsBigInt(receiver))
        constructor = cellblock_member(ctx, ctx->class_proto[JS_CLASS_BIG_INT], JS_ATOM_constructor);
    else if (JS_IsSymbol(receiver))
        constructor = cellblock_member(ctx, ctx->class_proto[JS_CLASS_SYMBOL], JS_ATOM_constructor);
    else if (JS_IsFunction(ctx, receiver))
        constructor = receiver;
    else if (JS_IsObject(receiver) && JS_VALUE_GET_OBJ(receiver)->class_id == JS_CLASS_PROXY)
        return JS_UNDEFINED;
    else {
        JSValueConst tag = cellblock_member(ctx, receiver, JS_ATOM_Symbol_toStringTag);
        if (JS_IsString(tag))
            return tag;
        constructor = cellblock_member(ctx, receiver, JS_ATOM_constructor);
    }
    return cellblock_member(ctx, constructor, JS_ATOM_name);
}

/* The own or inherited member of a receiver that is the function, when its name is not
 * the function's. */
static JSAtom cellblock_method(JSContext *ctx, JSValueConst receiver, JSValueConst function,
                               JSValueConst name)
{
    JSAtom found = JS_ATOM_NULL;
    int looked_at = 0;
    if (!JS_IsObject(receiver) || !JS_IsString(name))
        return JS_ATOM_NULL;
    for (JSObject *p = JS_VALUE_GET_OBJ(receiver); p; p = p->shape->proto) {
        if (p->class_id == JS_CLASS_PROXY)
            return JS_ATOM_NULL;
        JSShapeProperty *shape = get_shape_prop(p->shape);
        for (int i = 0; i < p->shape->prop_count; i++, shape++) {
            if (++looked_at > 1000)
                return JS_ATOM_NULL;
            if (shape->atom == JS_ATOM_NULL || (shape->flags & JS_PROP_TMASK) != JS_PROP_NORMAL
            ||  !JS_IsObject(p->prop[i].u.value)
            ||  JS_VALUE_GET_PTR(p->prop[i].u.value) != JS_VALUE_GET_PTR(function))
                continue;
            JSValue key = JS_AtomToString(ctx, shape->atom);
            bool same = js_same_value(ctx, key, name);
            JS_FreeValue(ctx, key);
            if (same || found != JS_ATOM_NULL)
                return JS_ATOM_NULL;
            found = shape->atom;
        }
    }
    return found;
}

static JSValue js_function_apply(JSContext *ctx, JSValueConst this_val, int argc,
                                 JSValueConst *argv, int magic);
static JSValue js_function_call(JSContext *ctx, JSValueConst this_val, int argc,
                                JSValueConst *argv);
static JSValue js_array_constructor(JSContext *ctx, JSValueConst new_target, int argc,
                                    JSValueConst *argv);
static JSValue js_global_eval(JSContext *ctx, JSValueConst this_val, int argc,
                              JSValueConst *argv);
static JSValue js_proxy_constructor(JSContext *ctx, JSValueConst this_val, int argc,
                                    JSValueConst *argv);

/* Whether V8 shows no frame for a built-in. */
static bool cellblock_hidden(JSObject *function)
{
    if (function->class_id != JS_CLASS_C_FUNCTION)
        return true;
    JSCFunction *code = function->u.cfunc.c_function.generic;
    return code == (JSCFunction *)js_function_apply || code == js_function_call
        || code == js_array_constructor || code == js_proxy_constructor || code == js_global_eval;
}

/* Adds one frame to a stack; false when it is not shown. */
static bool cellblock_frame(JSContext *ctx, DynBuf *out, JSStackFrame *frame, JSFunctionBytecode *code)
{
    JSObject *function = JS_VALUE_GET_OBJ(frame->cur_func);
    const char *file = NULL;
    if (code ? !code->filename || !frame->cur_pc : cellblock_hidden(function))
        return false;
    if (code) {
        file = JS_AtomToCString(ctx, code->filename);
        if (!file || file[0] == '<') {
            if (!file)
                JS_FreeValue(ctx, JS_GetException(ctx));
            JS_FreeCString(ctx, file);
            return false;
        }
    }
    JSValueConst name = cellblock_member(ctx, frame->cur_func, JS_ATOM_name);
    bool is_top = code && code->func_name == JS_ATOM__eval_;
    size_t start = out->size;
    dbuf_putstr(out, "    at ");
    bool named = true;
    if (is_top) {
        named = !strncmp(file, "eval at ", 8);
        if (named)
            dbuf_putstr(out, "eval");
    } else if (frame->is_constructor) {
        dbuf_putstr(out, "new ");
        if (!cellblock_put_name(ctx, out, name))
            dbuf_putstr(out, "<anonymous>");
    } else {
        JSValueConst receiver = frame->this_val;
        bool accessor = false;
        if (JS_IsString(name)) {
            JSValue head = cellblock_head(ctx, name, 4);
            const char *text = JS_ToCString(ctx, head);
            accessor = text && (!strcmp(text, "get ") || !strcmp(text, "set "));
            JS_FreeCString(ctx, text);
            JS_FreeValue(ctx, head);
        }
        bool method = !accessor && !JS_IsUndefined(receiver) && !JS_IsNull(receiver)
            && !(JS_IsObject(receiver)
                 && JS_VALUE_GET_PTR(receiver) == JS_VALUE_GET_PTR(ctx->global_obj));
        if (method && cellblock_put_name(ctx, out, cellblock_type(ctx, receiver)))
            dbuf_putc(out, '.');
        else
            method = false;
        named = cellblock_put_name(ctx, out, name);
        if (!named && method) {
            dbuf_putstr(out, "<anonymous>");
            named = true;
        } else if (method && code) {
            JSAtom alias = cellblock_method(ctx, receiver, frame->cur_func, name);
            if (alias != JS_ATOM_NULL) {
                JSValue text = JS_AtomToString(ctx, alias);
                dbuf_putstr(out, " [as ");
                cellblock_put_name(ctx, out, text);
                dbuf_putc(out, ']');
                JS_FreeValue(ctx, text);
            }
        }
    }
    if (code) {
        int column, line = find_line_num(ctx, code, frame->cur_pc - code->byte_code_buf - 1, &column);
        dbuf_printf(out, named ? " (" : "");
        dbuf_putstr(out, file);
        dbuf_printf(out, named ? ":%d:%d)\n" : ":%d:%d\n", line, column);
        JS_FreeCString(ctx, file);
    } else if (named) {
        dbuf_putstr(out, " (<anonymous>)\n");
    } else {
        out->size = start;
        return false;
    }
    return true;
}

/* What is in an object that wraps a boolean or a big integer. */
JSValue cellblock_unboxed(JSContext *ctx, JSValueConst object)
{
    return js_dup(JS_VALUE_GET_OBJ(object)->u.object_data);
}

/* The name of an object's constructor, or undefined. */
JSValue cellblock_constructor(JSContext *ctx, JSValueConst object)
{
    JSValueConst constructor = cellblock_member(ctx, object, JS_ATOM_constructor);
    return js_dup(cellblock_member(ctx, constructor, JS_ATOM_name));
}
