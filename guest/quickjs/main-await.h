/* Part of quickjs.c, by edits/main-await.toml. */

/* The place of the await at which the main module is suspended; false when there is
 * none. */
bool cellblock_awaiting(JSContext *ctx, int *line, int *column)
{
    JSAsyncFunctionData *data = cellblock_main.frame;
    if (!data || !data->is_active)
        return false;
    JSStackFrame *frame = &data->func_state.frame;
    JSFunctionBytecode *code = JS_VALUE_GET_OBJ(frame->cur_func)->u.func.function_bytecode;
    if (!frame->cur_pc)
        return false;
    *line = find_line_num(ctx, code, frame->cur_pc - code->byte_code_buf - 1, column);
    return true;
}

/* Asks for the value of the program, before it is compiled. */
void cellblock_want_value(void)
{
    cellblock_main.is_value_wanted = true;
}

/* The value of the program, once it has ended; given away. */
JSValue cellblock_take_value(void)
{
    JSValue value = cellblock_main.value;
    cellblock_main.value = JS_UNDEFINED;
    return value;
}
