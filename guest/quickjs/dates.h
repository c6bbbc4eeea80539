/* Part of quickjs.c, by edits/values.toml. */

/* RFC 3339 allows `t` and `z`, and V8 reads them. */
static void cellblock_iso_capitals(uint8_t *text)
{
    size_t length = strlen((char *)text);
    for (size_t i = 0; i < 10; i++) {
        if (i >= length || !(i == 4 || i == 7 ? text[i] == '-' : text[i] >= '0' && text[i] <= '9'))
            return;
    }
    if (length > 11 && text[10] == 't')
        text[10] = 'T';
    if (text[10] == 'T' && text[length - 1] == 'z')
        text[length - 1] = 'Z';
}

/* Whether a text without a month's name is no date for V8: it takes one to three numbers
 * before the time, month and day first, or the year first when the first cannot be a
 * month, and fills what is missing with 1. */
static bool cellblock_no_date(const uint8_t *text)
{
    static const char months[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    int numbers[3], count = 0;
    for (const uint8_t *p = text; *p; p++) {
        for (const char *month = months; *month; month += 3) {
            if ((p == text || !lre_is_id_continue_byte(p[-1]))
            &&  (p[0] | 32) == month[0] && (p[1] | 32) == month[1] && (p[2] | 32) == month[2])
                return false;
        }
    }
    for (const uint8_t *p = text; *p;) {
        if (*p == '(') {
            int depth = 0;
            do {
                depth += *p == '(' ? 1 : *p == ')' ? -1 : 0;
            } while (depth > 0 && *++p);
            if (*p)
                p++;
            continue;
        }
        if (*p == '+' && count == 0)
            return true;
        if (*p == '+' || (*p == '-' && count == 3))
            break;
        if (*p < '0' || *p > '9') {
            p++;
            continue;
        }
        int number = 0;
        for (; *p >= '0' && *p <= '9'; p++)
            number = number > 99999999 ? number : number * 10 + (*p - '0');
        if (*p == ':')
            break;
        if (count == 3) {
            /* behind the date: an hour such as `5 PM`, or a fourth number */
            const uint8_t *rest = p;
            while (*rest == ' ')
                rest++;
            if ((*rest | 32) == 'a' || (*rest | 32) == 'p')
                break;
            return true;
        }
        numbers[count++] = number;
    }
    if (count == 0)
        return true;
    while (count < 3)
        numbers[count++] = 1;
    bool year_first = numbers[0] < 1 || numbers[0] > 31;
    int month = year_first ? numbers[1] : numbers[0];
    int day = year_first ? numbers[2] : numbers[1];
    return month < 1 || month > 12 || day < 1 || day > 31;
}
