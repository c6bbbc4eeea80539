/* Part of quickjs.c, by edits/places.toml. */

/* UTF-16 units that begin in a piece of UTF-8. */
static int cellblock_units(const uint8_t *from, const uint8_t *to)
{
    int units = 0;
    for (; from < to; from++)
        units += (*from & 0xC0) == 0x80 ? 0 : *from >= 0xF0 ? 2 : 1;
    return units;
}

/* The column of a place in a line, from 1. */
static int cellblock_column_at(const uint8_t *line, const uint8_t *at)
{
    int column = 1;
    if (line != cellblock_counted.line)
        column += cellblock_units(line, at);
    else if (at >= cellblock_counted.at)
        column = cellblock_counted.column + cellblock_units(cellblock_counted.at, at);
    else
        column = cellblock_counted.column - cellblock_units(at, cellblock_counted.at);
    cellblock_counted.line = line;
    cellblock_counted.at = at;
    cellblock_counted.column = column;
    return column;
}

/* The column of the current token. */
static int cellblock_column(JSParseState *s)
{
    return cellblock_column_at(s->token.line_start, s->token.ptr);
}
