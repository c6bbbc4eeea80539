/* Part of quickjs.c, by edits/names.toml.
 *
 * Writes an expression as V8 names it in its messages: names, members and literals as
 * they are, calls as `f(...)`, and what has no name as `(intermediate value)`. The text
 * is an expression that the parser has accepted; what is not known here has no name. */

typedef struct {
    const uint8_t *at, *end;
    DynBuf *out;
    int depth; /* of nested expressions; beyond a bound nothing has a name */
    bool failed;
} Renderer;

#define CELLBLOCK_RENDER_DEPTH 20
#define CELLBLOCK_NAMELESS "(intermediate value)"

static void render_expression(Renderer *r, int level);

static bool render_part(uint8_t c)
{
    return lre_is_id_continue_byte(c) || c == '$' || c >= 0x80 || c == '\\';
}

static void render_blank(Renderer *r)
{
    while (r->at < r->end) {
        if (*r->at <= ' ') {
            r->at++;
        } else if (r->at + 1 < r->end && r->at[0] == '/' && r->at[1] == '/') {
            while (r->at < r->end && *r->at != '\n')
                r->at++;
        } else if (r->at + 1 < r->end && r->at[0] == '/' && r->at[1] == '*') {
            for (r->at += 2; r->at < r->end && !(r->at[-1] == '/' && r->at[-2] == '*'); r->at++)
                ;
        } else {
            break;
        }
    }
}

static bool render_sees(Renderer *r, const char *text)
{
    size_t length = strlen(text);
    render_blank(r);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, text, length))
        return false;
    return !render_part(text[length - 1]) || r->at + length == r->end || !render_part(r->at[length]);
}

static bool render_takes(Renderer *r, const char *text)
{
    if (!render_sees(r, text))
        return false;
    r->at += strlen(text);
    return true;
}

/* Passes over a quoted piece, whose opening mark is the current byte. */
static void render_skip_quoted(Renderer *r)
{
    uint8_t mark = *r->at++;
    int depth = 0;
    for (; r->at < r->end; r->at++) {
        if (*r->at == '\\')
            r->at++;
        else if (mark == '`' && *r->at == '$' && r->at + 1 < r->end && r->at[1] == '{')
            depth++;
        else if (mark == '`' && *r->at == '}' && depth > 0)
            depth--;
        else if (*r->at == mark && depth == 0)
            break;
    }
    if (r->at < r->end)
        r->at++;
    else
        r->failed = true;
}

/* Passes over a bracketed piece, whose opening bracket is the current byte. */
static void render_skip_brackets(Renderer *r)
{
    int depth = 0;
    while (r->at < r->end) {
        render_blank(r);
        if (r->at >= r->end)
            break;
        uint8_t c = *r->at;
        if (c == '"' || c == '\'' || c == '`') {
            render_skip_quoted(r);
            continue;
        }
        r->at++;
        if (c == '(' || c == '[' || c == '{') {
            depth++;
        } else if (c == ')' || c == ']' || c == '}') {
            if (--depth == 0)
                return;
        } else if (c == '/' && !render_part(r->at[-2]) && r->at[-2] != ')' && r->at[-2] != ']') {
            r->failed = true; /* perhaps a regular expression, in which brackets mean nothing */
            return;
        }
    }
    r->failed = true;
}

/* The inside of a plain string or template. */
static void render_string(Renderer *r)
{
    const uint8_t *start = r->at + 1;
    bool is_template = *r->at == '`';
    render_skip_quoted(r);
    if (r->failed)
        return;
    for (const uint8_t *p = start; p < r->at - 1; p++) {
        if (*p == '\\' || (is_template && *p == '$' && p[1] == '{')) {
            dbuf_putstr(r->out, CELLBLOCK_NAMELESS);
            return;
        }
    }
    dbuf_put(r->out, start, r->at - 1 - start);
}

static void render_list(Renderer *r, char close)
{
    bool first = true;
    for (;;) {
        render_blank(r);
        if (r->failed || r->at >= r->end || *r->at == (uint8_t)close)
            break;
        if (!first)
            dbuf_putc(r->out, ',');
        first = false;
        if (render_takes(r, "...")) {
            dbuf_putstr(r->out, "(...");
            render_expression(r, 0);
            dbuf_putc(r->out, ')');
        } else {
            render_expression(r, 0);
        }
        if (!render_takes(r, ","))
            break;
    }
    if (r->at < r->end && *r->at == (uint8_t)close)
        r->at++;
    else
        r->failed = true;
}

static void render_primary(Renderer *r)
{
    static const char *const nameless[] = { "function", "class", "async", "new", "import" };
    render_blank(r);
    if (r->at >= r->end) {
        r->failed = true;
        return;
    }
    uint8_t c = *r->at;
    const uint8_t *start = r->at;
    for (size_t i = 0; i < countof(nameless); i++) {
        if (render_sees(r, nameless[i])) {
            r->failed = true;
            return;
        }
    }
    if (c == '"' || c == '\'' || c == '`') {
        dbuf_putc(r->out, '"');
        render_string(r);
        dbuf_putc(r->out, '"');
    } else if (c == '[') {
        r->at++;
        dbuf_putc(r->out, '[');
        render_list(r, ']');
        dbuf_putc(r->out, ']');
    } else if (c == '{') {
        render_skip_brackets(r);
        dbuf_putc(r->out, '{');
        if (r->at - start > 2)
            dbuf_putstr(r->out, CELLBLOCK_NAMELESS);
        dbuf_putc(r->out, '}');
    } else if (c == '(') {
        r->at++;
        render_expression(r, -1);
        if (!render_takes(r, ")"))
            r->failed = true;
    } else if (c == '/') {
        bool set = false;
        for (r->at++; r->at < r->end && (*r->at != '/' || set); r->at++) {
            if (*r->at == '\\')
                r->at++;
            else if (*r->at == '[')
                set = true;
            else if (*r->at == ']')
                set = false;
        }
        r->at++;
        while (r->at < r->end && render_part(*r->at))
            r->at++;
        if (r->at > r->end)
            r->failed = true;
        else
            dbuf_put(r->out, start, r->at - start);
    } else if (render_part(c) || c == '#' || c == '.') {
        r->at++;
        while (r->at < r->end && (render_part(*r->at) || (c >= '0' && c <= '9' && *r->at == '.')))
            r->at++;
        dbuf_put(r->out, start, r->at - start);
    } else {
        r->failed = true;
    }
}

/* A primary expression with its members and calls. `new` has no name of its own. */
static void render_chain(Renderer *r)
{
    if (++r->depth > CELLBLOCK_RENDER_DEPTH)
        r->failed = true;
    if (!r->failed)
        render_primary(r);
    while (!r->failed) {
        render_blank(r);
        if (r->at >= r->end)
            break;
        bool optional = render_takes(r, "?.");
        if (optional && (r->at >= r->end || *r->at == '('))
            continue;
        if (optional || (*r->at == '.' && r->at + 1 < r->end && r->at[1] != '.')) {
            dbuf_putstr(r->out, optional ? "?." : ".");
            if (!optional)
                r->at++;
            render_blank(r);
            if (r->at < r->end && *r->at == '[')
                continue;
            const uint8_t *start = r->at;
            while (r->at < r->end && (render_part(*r->at) || *r->at == '#'))
                r->at++;
            dbuf_put(r->out, start, r->at - start);
        } else if (*r->at == '[') {
            r->at++;
            render_blank(r);
            uint8_t c = r->at < r->end ? *r->at : 0;
            const uint8_t *start = r->at;
            size_t size = r->out->size;
            if (c == '"' || c == '\'' || c == '`') {
                dbuf_putc(r->out, '.');
                render_string(r);
                render_blank(r);
                if (r->at < r->end && *r->at == ']') {
                    r->at++;
                    continue;
                }
                r->at = start;
                r->out->size = size;
            }
            dbuf_putc(r->out, '[');
            render_expression(r, -1);
            if (!render_takes(r, "]"))
                r->failed = true;
            dbuf_putc(r->out, ']');
        } else if (*r->at == '(') {
            render_skip_brackets(r);
            dbuf_putstr(r->out, "(...)");
        } else if (*r->at == '`') {
            render_skip_quoted(r);
            dbuf_putstr(r->out, "(...)");
        } else {
            break;
        }
    }
    r->depth--;
}

/* A chain that has no name is named as such, up to its end in this expression. */
static void render_operand(Renderer *r)
{
    static const char *const unary[] = { "typeof", "delete", "void", "-", "!", "~", "+" };
    size_t size = r->out->size;
    for (size_t i = 0; i < countof(unary); i++) {
        if (!render_takes(r, unary[i]))
            continue;
        render_blank(r);
        if (unary[i][0] == '-' && r->at < r->end && *r->at >= '0' && *r->at <= '9') {
            dbuf_putc(r->out, '-');
            render_chain(r);
            return;
        }
        dbuf_printf(r->out, "(%s%s", unary[i], unary[i][1] ? " " : "");
        render_operand(r);
        dbuf_putc(r->out, ')');
        return;
    }
    if (render_sees(r, "await") || render_sees(r, "yield")) {
        r->failed = true;
        return;
    }
    render_chain(r);
    if (!r->failed && (render_takes(r, "++") || render_takes(r, "--"))) {
        char *operand = NULL;
        size_t length = r->out->size - size;
        char mark = r->at[-1];
        dbuf_putstr(r->out, "   ");
        operand = (char *)r->out->buf + size;
        memmove(operand + 1, operand, length);
        operand[0] = '(';
        operand[length + 1] = operand[length + 2] = mark;
        dbuf_putc(r->out, ')');
    }
}

/* Operators by level, loosest first; -1 is the comma. */
static const char *const cellblock_operators[][9] = {
    { "??", "||" }, { "&&" }, { "|" }, { "^" }, { "&" },
    { "===", "!==", "==", "!=" }, { "<=", ">=", "instanceof", "in", "<", ">" },
    { "<<", ">>>", ">>" }, { "+", "-" }, { "**", "*", "/", "%" },
};

static void render_expression(Renderer *r, int level)
{
    int levels = countof(cellblock_operators);
    if (r->failed)
        return;
    if (level >= levels) {
        render_operand(r);
        return;
    }
    size_t size = r->out->size;
    bool open = false;
    render_expression(r, level + 1);
    while (!r->failed) {
        const char *found = level < 0 && render_sees(r, ",") ? "," : NULL;
        for (int i = 0; level >= 0 && !found && i < 9 && cellblock_operators[level][i]; i++) {
            const char *operator = cellblock_operators[level][i];
            size_t length = strlen(operator);
            if (render_sees(r, operator) && r->at + length < r->end
            &&  r->at[length] != '=' && !(strlen(operator) == 1 && r->at[length] == operator[0]))
                found = operator;
        }
        if (!found)
            break;
        r->at += strlen(found);
        if (!open) {
            size_t length = r->out->size - size;
            dbuf_putc(r->out, ' ');
            if (dbuf_error(r->out))
                break;
            memmove(r->out->buf + size + 1, r->out->buf + size, length);
            r->out->buf[size] = '(';
            open = true;
        }
        dbuf_printf(r->out, " %s ", found);
        render_expression(r, level + 1);
    }
    if (open)
        dbuf_putc(r->out, ')');
}

/* Whether a piece without a name ends in a member that has one, as in
 * `(await p).foo`: finds where that begins, from behind. */
static const uint8_t *render_members(const uint8_t *start, const uint8_t *end)
{
    const uint8_t *from = end;
    for (;;) {
        const uint8_t *p = from;
        while (p > start && render_part(p[-1]))
            p--;
        if (p == from || p == start || p[-1] != '.' || (p - 1 > start && p[-2] == '.'))
            return from;
        from = p - 1;
        if (from > start && from[-1] == '?')
            return from - 1;
    }
}

/* Appends the name of an expression. */
static void cellblock_render(DynBuf *out, const uint8_t *start, const uint8_t *end)
{
    size_t size = out->size;
    while (end > start && (end[-1] <= ' '))
        end--;
    if (end - start > 2 && end[-1] == '.' && end[-2] == '?')
        end -= 2;
    Renderer r = { start, end, out, 0, false };
    render_expression(&r, -1);
    render_blank(&r);
    if (!r.failed && r.at == r.end)
        return;
    out->size = size;
    dbuf_putstr(out, CELLBLOCK_NAMELESS);
    const uint8_t *members = render_members(start, end);
    dbuf_put(out, members, end - members);
}
