/* Part of quickjs.c, by edits/messages.toml. */

/* Whether a message of the parser only says that it wanted another token. */
static bool cellblock_is_unexpected(const char *format)
{
    static const char *const unexpected[] = {
        "expecting '%c'", "expecting field name", "expecting target", "variable name expected",
        "unexpected token in expression: '%.*s'", "unexpected token: '%.*s'",
        "'%s' is a reserved identifier", "function name expected", "expected 'of' or 'in' in for control expression",
        "missing formal parameter", "expecting 'as'", "invalid property name", "identifier expected",
        "yield is a reserved identifier", "invalid switch statement",
    };
    for (size_t i = 0; i < countof(unexpected); i++) {
        if (!strcmp(format, unexpected[i]))
            return true;
    }
    return false;
}

/* Throws V8's message for the current token, or for the name that is declared again;
 * false when the engine's message stands. */
static bool cellblock_syntax_error(JSParseState *s, const char *format)
{
    char name[ATOM_GET_STR_BUF_SIZE];
    DynBuf text;
    js_dbuf_init(s->ctx, &text);
    if (!strncmp(format, "invalid redefinition", 20) && s->declared != JS_ATOM_NULL) {
        dbuf_printf(&text, "Identifier '%s' has already been declared",
                    JS_AtomGetStr(s->ctx, name, sizeof(name), s->declared));
    } else if (!strcmp(format, "unexpected end of string") && *s->token.ptr == '`') {
        dbuf_putstr(&text, "Unexpected end of input");
    } else if (!cellblock_is_unexpected(format)) {
        return false;
    } else if (s->token.val == TOK_EOF) {
        dbuf_putstr(&text, "Unexpected end of input");
    } else if (s->token.val == TOK_NUMBER) {
        dbuf_putstr(&text, "Unexpected number");
    } else if (s->token.val == TOK_STRING) {
        dbuf_putstr(&text, "Unexpected string");
    } else if (s->token.val == TOK_TEMPLATE) {
        dbuf_putstr(&text, "Unexpected template string");
    } else if (s->token.val == TOK_IDENT && !s->token.u.ident.is_reserved) {
        dbuf_printf(&text, "Unexpected identifier '%s'",
                    JS_AtomGetStr(s->ctx, name, sizeof(name), s->token.u.ident.atom));
    } else if (s->token.val == TOK_AWAIT || s->token.val == TOK_ENUM) {
        dbuf_putstr(&text, "Unexpected reserved word");
    } else if ((s->token.val >= TOK_IMPLEMENTS && s->token.val <= TOK_YIELD)
           ||  s->token.val == TOK_LET || s->token.val == TOK_STATIC
           ||  (s->token.val == TOK_IDENT && s->token.u.ident.is_reserved)) {
        dbuf_putstr(&text, "Unexpected strict mode reserved word");
    } else if (s->token.val == TOK_ERROR || *s->token.ptr == '@' || *s->token.ptr == '#' || *s->token.ptr == '\\') {
        dbuf_putstr(&text, "Invalid or unexpected token");
    } else {
        dbuf_putstr(&text, "Unexpected token '");
        dbuf_put(&text, s->token.ptr, s->buf_ptr - s->token.ptr);
        dbuf_putc(&text, '\'');
    }
    cellblock_throw(s->ctx, JS_SYNTAX_ERROR, &text);
    return true;
}
