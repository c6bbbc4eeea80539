/* Part of quickjs.c, by edits/places.toml. */

/* UTF-16 units that begin in a piece of UTF-8. */
static int cellblock_units(const uint8_t *from, const uint8_t *to)
{
    int units = 0;
    for (; from < to; from++)
        units += (*from & 0xC0) == 0x80 ? 0 : *from >= 0xF0 ? 2 : 1;
    return units;
}

/* Where columns of the main module are not those of its author, while it is compiled: from
 * a column of a line on, up to the next. */
typedef struct {
    uint32_t line, column, original;
} CellblockShift;

static struct {
    const CellblockShift *list;
    size_t count;
} cellblock_shifts;

void cellblock_set_shifts(const CellblockShift *list, size_t count)
{
    cellblock_shifts.list = list;
    cellblock_shifts.count = count;
}

/* The author's column of a place. */
static int cellblock_authored(int line, int column)
{
    size_t low = 0, high = cellblock_shifts.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const CellblockShift *shift = &cellblock_shifts.list[middle];
        if (shift->line < line || (shift->line == line && shift->column <= column))
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || cellblock_shifts.list[low - 1].line != line)
        return column;
    const CellblockShift *shift = &cellblock_shifts.list[low - 1];
    int original = shift->original + (column - shift->column);
    /* What the author did not write stands for what follows it. */
    if (low < cellblock_shifts.count && shift[1].line == line && original > shift[1].original)
        return shift[1].original;
    return original;
}

/* The column of a place in a line, from 1. */
static int cellblock_column_at(int number, const uint8_t *line, const uint8_t *at)
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
    return cellblock_authored(number, column);
}

/* The column of the current token. */
static int cellblock_column(JSParseState *s)
{
    return cellblock_column_at(s->token.line_num, s->token.line_start, s->token.ptr);
}
