/* Part of quickjs.c, by edits/names.toml: what the compiler notes. */

#include "render.h"

/* A call while it is parsed: where it is, and what is called. */
typedef struct {
    const uint8_t *start, *constructor, *end;
    int start_line, start_column;
    int line, column;
    bool is_new;
} CellblockCall;

/* The expression that begins with the current token. */
static CellblockCall cellblock_expression(JSParseState *s)
{
    CellblockCall call = { 0 };
    call.start = s->token.ptr;
    call.start_line = s->token.line_num;
    call.start_column = cellblock_column(s);
    return call;
}

/* The callee has been parsed. V8 places a call at the last name of the callee, else at
 * the bracket, and a construction at `new`. */
static void cellblock_end_callee(JSParseState *s, CellblockCall *call, bool is_new)
{
    call->end = s->token.ptr;
    call->is_new = is_new;
    if (is_new) {
        call->line = call->start_line;
        call->column = call->start_column;
        return;
    }
    bool named = s->token.val == '(' && s->before.ptr >= call->start
        && s->before.ptr < s->token.ptr
        && (s->before.val == TOK_IDENT || s->before.val == TOK_SUPER);
    call->line = named ? s->before.line_num : s->token.line_num;
    call->column = named
        ? cellblock_column_at(s->before.line_num, s->before.line_start, s->before.ptr)
        : cellblock_column(s);
}

/* Notes the name of an expression for an instruction at a place. */
static void cellblock_note(JSParseState *s, int kind, int line, int column,
                           const uint8_t *start, const uint8_t *end)
{
    DynBuf *notes = &s->cur_func->notes;
    dbuf_putc(notes, kind);
    dbuf_put_u32(notes, line);
    dbuf_put_u32(notes, column);
    size_t at = notes->size;
    dbuf_put_u16(notes, 0);
    cellblock_render(notes, start, end);
    if (dbuf_error(notes))
        return;
    size_t length = notes->size - at - 2;
    if (length > UINT16_MAX) {
        length = 0;
        notes->size = at + 2;
    }
    put_u16(notes->buf + at, length);
}

/* The instruction that follows is the call. */
static void cellblock_emit_call(JSParseState *s, CellblockCall *call)
{
    emit_source_loc_at(s, call->line, call->column);
    cellblock_note(s, call->is_new ? NOTE_NEW : NOTE_CALL, call->line, call->column,
                   call->is_new ? call->constructor : call->start, call->end);
}

/* Parses an expression that is iterated by the instruction that follows. */
static __exception int cellblock_iterated(JSParseState *s)
{
    const uint8_t *start = s->token.ptr;
    emit_source_loc(s);
    if (js_parse_assign_expr(s))
        return -1;
    cellblock_note(s, NOTE_ITERATED, s->emitted_line, s->emitted_column, start, s->token.ptr);
    return 0;
}

/* A destructuring pattern while it is parsed. */
typedef struct {
    bool is_object, is_array;
    bool is_nested; /* in another pattern */
    bool is_loop;   /* of the variable of a loop, which V8 calls `.for` */
    int line, column;
    const uint8_t *property, *property_end;
    size_t place_at; /* of an array's place, in the byte code */
} CellblockPattern;

static void cellblock_note_pattern(JSParseState *s, CellblockPattern *pattern,
                                   const uint8_t *value, const uint8_t *end)
{
    DynBuf *notes = &s->cur_func->notes;
    dbuf_putc(notes, NOTE_DESTRUCTURED);
    dbuf_put_u32(notes, pattern->line);
    dbuf_put_u32(notes, pattern->column);
    size_t at = notes->size;
    dbuf_put_u16(notes, 0);
    if (pattern->is_nested)
        dbuf_putc(notes, NOTE_NESTED);
    if (pattern->property && pattern->property_end - pattern->property < 256)
        dbuf_put(notes, pattern->property, pattern->property_end - pattern->property);
    dbuf_putc(notes, 0);
    if (value)
        cellblock_render(notes, value, end);
    else if (pattern->is_loop)
        dbuf_putstr(notes, ".for");
    if (dbuf_error(notes))
        return;
    size_t length = notes->size - at - 2;
    if (length > UINT16_MAX) {
        length = 0;
        notes->size = at + 2;
    }
    put_u16(notes->buf + at, length);
}

/* An object pattern, whose first property is the current token. V8 places its error at
 * that property. */
static CellblockPattern cellblock_object_pattern(JSParseState *s, bool is_nested, bool has_value)
{
    CellblockPattern pattern = { 0 };
    pattern.is_nested = is_nested;
    pattern.is_loop = !has_value && !is_nested;
    pattern.is_object = true;
    if (token_is_ident(s->token.val)) {
        pattern.line = s->token.line_num;
        pattern.column = cellblock_column(s);
        pattern.property = s->token.ptr;
        pattern.property_end = s->buf_ptr;
    } else {
        pattern.line = s->before.line_num;
        pattern.column = cellblock_column_at(s->before.line_num, s->before.line_start, s->before.ptr);
    }
    cellblock_note_pattern(s, &pattern, NULL, NULL);
    emit_source_loc_at(s, pattern.line, pattern.column);
    return pattern;
}

/* An array pattern. V8 places the error of a declaration at the value. */
static CellblockPattern cellblock_array_pattern(JSParseState *s, bool declares, bool has_value)
{
    CellblockPattern pattern = { 0 };
    pattern.is_array = declares;
    pattern.place_at = s->cur_func->byte_code.size + 1;
    emit_source_loc_at(s, s->before.line_num,
                       cellblock_column_at(s->before.line_num, s->before.line_start, s->before.ptr));
    if (!has_value) {
        static const uint8_t loop[] = ".for";
        cellblock_note(s, NOTE_ITERATED, s->emitted_line, s->emitted_column, loop, loop + 4);
    }
    return pattern;
}

/* The value of a pattern has been parsed. */
static void cellblock_name_pattern(JSParseState *s, CellblockPattern *pattern,
                                   const uint8_t *value, const uint8_t *end)
{
    DynBuf *code = &s->cur_func->byte_code;
    if (pattern->is_object)
        cellblock_note_pattern(s, pattern, value, end);
    if (!pattern->is_array || dbuf_error(code))
        return;
    put_u32(code->buf + pattern->place_at, s->emitted_line);
    put_u32(code->buf + pattern->place_at + 4, s->emitted_column);
    cellblock_note(s, NOTE_UNPACKED, s->emitted_line, s->emitted_column, value, end);
}

/* Gives the notes to the compiled function. */
static void cellblock_keep_notes(JSContext *ctx, JSFunctionDef *fd, JSFunctionBytecode *b)
{
    if (dbuf_error(&fd->notes) || fd->notes.size == 0)
        return;
    b->notes = js_malloc(ctx, fd->notes.size);
    if (!b->notes) {
        JS_FreeValue(ctx, JS_GetException(ctx));
        return;
    }
    memcpy(b->notes, fd->notes.buf, fd->notes.size);
    b->notes_len = fd->notes.size;
    dbuf_free(&fd->notes);
    js_dbuf_init(ctx, &fd->notes);
}
