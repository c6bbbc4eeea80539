/* Part of quickjs.c, by edits/unawaited.toml. */

/* Where the main module is, when it makes a promise itself or by a built-in or tool. */
static uint32_t cellblock_made_at(JSRuntime *rt)
{
    for (JSStackFrame *frame = rt->current_stack_frame; frame; frame = frame->prev_frame) {
        JSFunctionBytecode *code = JS_GetFunctionBytecode(frame->cur_func);
        if (!code)
            continue;
        if (!frame->cur_pc || !JS_IsObject(cellblock_main.function)
        ||  JS_VALUE_GET_PTR(frame->cur_func) != JS_VALUE_GET_PTR(cellblock_main.function))
            break;
        return frame->cur_pc - code->byte_code_buf;
    }
    return 0;
}

/* Counts the pending promises that nothing waits for; the place of the first that the
 * main module made, or line 0. */
int cellblock_unawaited(JSContext *ctx, int *line, int *column)
{
    struct list_head *el;
    int count = 0;
    uint32_t first = 0;
    *line = *column = 0;
    list_for_each(el, &ctx->rt->gc_obj_list) {
        JSGCObjectHeader *header = list_entry(el, JSGCObjectHeader, link);
        if (JS_GC_TYPE(header) != JS_GC_OBJ_TYPE_JS_OBJECT)
            continue;
        JSObject *p = (JSObject *)header;
        if (p->class_id != JS_CLASS_PROMISE || !p->u.promise_data)
            continue;
        JSPromiseData *promise = p->u.promise_data;
        if (promise->promise_state != JS_PROMISE_PENDING || promise->is_handled
        ||  !list_empty(&promise->promise_reactions[0]))
            continue;
        count++;
        if (promise->made_at > 0 && (first == 0 || promise->made_at < first))
            first = promise->made_at;
    }
    if (first > 0) {
        JSFunctionBytecode *code = JS_GetFunctionBytecode(cellblock_main.function);
        *line = find_line_num(ctx, code, first - 1, column);
    }
    return count;
}
