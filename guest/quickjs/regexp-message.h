/* Part of quickjs.c, by edits/messages.toml. */

/* Throws V8's message for a regular expression that does not compile. */
static void cellblock_regexp_error(JSContext *ctx, JSValueConst pattern, JSValueConst flags,
                                   const char *engine)
{
    static const char *const wording[][2] = {
        { "expecting ')'", "Unterminated group" },
        { "nothing to repeat", "Nothing to repeat" },
        { "unexpected end", "Unterminated character class" },
        { "invalid class range", "Range out of order in character class" },
        { "invalid group", "Invalid group" },
        { "invalid modifiers", "Invalid group" },
        { "invalid group name", "Invalid capture group name" },
        { "duplicate group name", "Duplicate capture group name" },
        { "expecting group name", "Invalid named reference" },
        { "group name not defined", "Invalid named capture referenced" },
        { "invalid repetition count", "numbers out of order in {} quantifier" },
        { "extraneous characters at the end", "Unmatched ')'" },
        { "invalid escape sequence in regular expression", "Invalid escape" },
        { "invalid decimal escape in regular expression", "Invalid decimal escape" },
        { "back reference out of range in regular expression", "Invalid escape" },
        { "unknown unicode property name", "Invalid property name" },
        { "unknown unicode property value", "Invalid property name" },
        { "unknown unicode script", "Invalid property name" },
        { "unknown unicode general category", "Invalid property name" },
        { "invalid character in class in regular expression", "Invalid character in character class" },
        { "invalid class set operation in regular expression", "Invalid set operation in character class" },
        { "malformed unicode char", "Invalid Unicode escape" },
        { "syntax error", "Lone quantifier brackets" },
    };
    DynBuf text;
    for (size_t i = 0; i < countof(wording); i++) {
        if (!strcmp(engine, wording[i][0])) {
            engine = wording[i][1];
            break;
        }
    }
    JSValue head = cellblock_head(ctx, pattern, CELLBLOCK_TEXT_LENGTH);
    const char *source = JS_ToCString(ctx, head);
    const char *letters = JS_IsString(flags) ? JS_ToCString(ctx, flags) : NULL;
    size_t length = source ? strlen(source) : 0;
    if (length > 0 && source[length - 1] == '\\' && !strcmp(engine, "Unterminated character class"))
        engine = "\\ at end of pattern";
    js_dbuf_init(ctx, &text);
    dbuf_putstr(&text, "Invalid regular expression: /");
    dbuf_putstr(&text, source ? source : "");
    dbuf_putc(&text, '/');
    dbuf_putstr(&text, letters ? letters : "");
    dbuf_printf(&text, ": %s", engine);
    JS_FreeCString(ctx, source);
    JS_FreeCString(ctx, letters);
    JS_FreeValue(ctx, head);
    cellblock_throw(ctx, JS_SYNTAX_ERROR, &text);
}
